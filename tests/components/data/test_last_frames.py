"""The end of a video is what a generated one goes on from: the right frames, in order, at the right rate."""

from fractions import Fraction

import av
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


def test_sound_that_goes_on_behind_the_last_frame_changes_nothing(tmp_path):
    """The length of a container is that of its longest stream."""
    path = tmp_path / "loud.mp4"
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=FPS, options={"qp": "1"})
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        sound = container.add_stream("aac", rate=44_100)
        for index in range(FRAMES):
            grey = np.full((48, 64, 3), 10 * index, dtype=np.uint8)
            container.mux(video.encode(av.VideoFrame.from_ndarray(grey, format="rgb24")))
        container.mux(video.encode())
        for index in range(int(44_100 * (FRAMES / FPS + 1.5) / 1024)):
            silence = np.zeros((1, 1024), np.float32)
            frame = av.AudioFrame.from_ndarray(silence, format="fltp", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = 44_100, 1024 * index, Fraction(1, 44_100)
            container.mux(sound.encode(frame))
        container.mux(sound.encode())
    frames = last_frames(path, 4, fps=FPS, height=24, width=24)
    assert np.abs(frames.mean(axis=(1, 2, 3)) - [120, 130, 140, 150]).max() < 3


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
