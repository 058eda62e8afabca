"""The end of a video is what a generated one goes on from: the right frames, in order, at the right rate."""

import numpy as np
import pytest
from PIL import Image

from components.data.last_frames import last_frames
from components.errors import UserError
from models.generation.video_file import to_mp4

FRAMES, FPS = 16, 8


@pytest.fixture
def film(tmp_path):
    """Frame k is grey of level 10 k."""
    frames = np.stack([np.full((48, 64, 3), 10 * index, dtype=np.uint8) for index in range(FRAMES)])
    path = tmp_path / "film.mp4"
    path.write_bytes(to_mp4(frames, FPS))
    return path


@pytest.mark.parametrize(("fps", "expected"), [(8, [120, 130, 140, 150]), (4, [80, 100, 120, 140])])
def test_the_last_frames_come_in_order_at_the_rate_asked_for(film, fps, expected):
    frames = last_frames(film, 4, fps=fps, height=24, width=24)
    assert frames.shape == (4, 24, 24, 3)
    assert np.abs(frames.mean(axis=(1, 2, 3)) - expected).max() < 3


def test_a_picture_is_one_frame(tmp_path):
    path = tmp_path / "picture.png"
    Image.fromarray(np.full((40, 60, 3), 200, dtype=np.uint8)).save(path)
    frames = last_frames(path, 1, fps=8, height=16, width=24)
    assert frames.shape == (1, 16, 24, 3)
    assert abs(frames.mean() - 200) < 2
    with pytest.raises(UserError, match="has 1 frames at 8 fps, and 5 are to be given"):
        last_frames(path, 5, fps=8, height=16, width=24)


def test_a_file_that_is_no_video_is_named(tmp_path):
    (tmp_path / "notes.txt").write_text("no video")
    for path, said in ((tmp_path / "notes.txt", "cannot be read"), (tmp_path / "gone.mp4", "does not exist")):
        with pytest.raises(UserError, match=said):
            last_frames(path, 1, fps=8, height=16, width=16)
