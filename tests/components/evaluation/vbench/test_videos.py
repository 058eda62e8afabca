"""Videos of a run that was stopped are those of the uninterrupted one, and none is made twice."""

from dataclasses import replace

import numpy as np
import pytest

from components.errors import UserError
from components.evaluation.vbench.prompts import Request
from components.evaluation.vbench.videos import make_videos
from models.generation.layout import Settings

SETTINGS = Settings(height=16, width=16, num_frames=3, fps=8, steps=2, guidance_scale=1.0)
REQUESTS = [Request(f"prompt {row // 2}", row % 2, 50 + row, ("temporal_flickering",)) for row in range(10)]


class Maker:
    """Frames that follow from the seed alone; stops before the call after the last allowed one."""

    def __init__(self, calls=99):
        self.calls, self.seeds = calls, []

    def __call__(self, prompts, seed):
        if not self.calls:
            raise KeyboardInterrupt
        self.calls -= 1
        self.seeds.append(seed)
        rows = [np.random.default_rng(seed + i).integers(0, 255, (3, 16, 16, 3)) for i in range(len(prompts))]
        return np.stack(rows).astype(np.uint8)


def make(folder, maker, **changes):
    options = {"model": "m", "settings": SETTINGS, "batch": 3} | changes
    return make_videos(REQUESTS, folder, maker, **options)


def files(folder):
    return {path.name: path.read_bytes() for path in folder.glob("*.mp4")}


def test_a_stopped_run_goes_on_where_it_was(tmp_path):
    assert make(tmp_path / "whole", Maker()) == 10
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path / "stopped", Maker(calls=2))
    assert len(files(tmp_path / "stopped")) == 6
    rest = Maker()
    assert make(tmp_path / "stopped", rest) == 4
    assert rest.seeds == [56, 59]
    assert files(tmp_path / "stopped") == files(tmp_path / "whole")


def test_a_video_that_was_lost_is_made_again_alone(tmp_path):
    make(tmp_path, Maker())
    before = files(tmp_path)
    (tmp_path / "prompt 2-1.mp4").unlink()
    assert make(tmp_path, Maker()) == 1
    assert files(tmp_path) == before


@pytest.mark.parametrize("changes", [{"model": "other"}, {"settings": replace(SETTINGS, steps=3)}])
def test_videos_of_another_run_are_not_mixed_with(tmp_path, changes):
    make(tmp_path, Maker())
    with pytest.raises(UserError, match="videos of another run"):
        make(tmp_path, Maker(), **changes)
