"""A file of the same frames is the same file: what DVC and the registry know it by."""

import numpy as np
import pytest

from models.generation.video_file import to_mp4


@pytest.mark.parametrize("size", [(24, 40), (40, 24), (25, 31), (128, 128)])
def test_equal_frames_give_equal_bytes_wherever_they_lie_in_memory(size):
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 255, (9, *size, 3), dtype=np.uint8)
    moved = [bytearray(rng.integers(1_000, 100_000)) for _ in range(400)]
    files = set()
    while moved:
        files.add(to_mp4(frames.copy(), fps=8))
        del moved[-20:]
    assert len(files) == 1
