import numpy as np
import pytest
import torch

from components.autoencoder.config import FramesConfig
from components.data import frame_batches
from components.data.clips import read_clips
from components.data.frame_batches import FrameBatches
from components.data.frames import read_frames
from components.data.schedule import permutation
from components.errors import UserError
from tests.tiny_clips import SCENES, make_clips

DATA = FramesConfig(height=32, width=32, fps=8, frames=5, batch=4)


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    root = tmp_path_factory.mktemp("frames")
    return read_clips(make_clips(root), root=root, videos=root / "data" / "footage")


def test_a_batch_holds_windows_of_the_decoded_clips(clips):
    batch = FrameBatches(clips, DATA, seed=1).batch(0)
    assert batch.shape == (4, 3, 5, 32, 32)
    decoded = [read_frames(c.path, c.start_seconds, c.end_seconds, fps=8, height=32, width=32) for c in clips]
    windows = {w[s : s + 5].tobytes() for w in decoded for s in range(len(w) - 4)}
    pixels = ((batch.permute(0, 2, 3, 4, 1) + 1) * 127.5).round().to(torch.uint8).numpy()
    assert all(np.ascontiguousarray(window).tobytes() in windows for window in pixels)


def test_a_batch_depends_on_seed_and_position_alone(clips):
    one, other = FrameBatches(clips, DATA, seed=1), FrameBatches(clips, DATA, seed=1, cache_bytes=1)
    forward = [one.batch(position) for position in range(4)]
    assert all(torch.equal(forward[position], other.batch(position)) for position in (3, 1, 0, 2))
    assert not torch.equal(forward[0], FrameBatches(clips, DATA, seed=2).batch(0))


def test_single_frames_and_shorter_windows_can_be_asked_for(clips):
    batches = FrameBatches(clips, DATA, seed=1)
    assert batches.batch(0, frames=1).shape == (4, 3, 1, 32, 32)
    assert batches.batch(0, frames=3).shape == (4, 3, 3, 32, 32)


def test_every_clip_is_seen_once_before_any_is_seen_again(clips):
    batches = FrameBatches(clips, DATA.model_copy(update={"batch": len(SCENES), "frames": 12}), seed=1)
    windows = {window.numpy().tobytes() for window in batches.batch(0)}
    assert len(windows) == len(SCENES)


def test_the_order_of_an_epoch_is_drawn_once_and_not_for_every_window(clips, monkeypatch):
    """Of 10 million clips it takes half a second."""
    epochs = []

    def counted(seed, epoch, name, count):
        epochs.append(epoch)
        return permutation(seed, epoch, name, count)

    monkeypatch.setattr(frame_batches, "permutation", counted)
    batches = FrameBatches(clips, DATA, seed=1)
    for position in range(6):
        batches.batch(position)
    assert len(epochs) <= 2 * (1 + 6 * DATA.batch // len(clips))


def test_an_unreadable_clip_is_replaced_and_named(clips, tmp_path, caplog):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"not a video")
    damaged = [
        clip if index else clip.__class__(**{**clip.__dict__, "path": broken})
        for index, clip in enumerate(clips)
    ]
    batches = FrameBatches(damaged, DATA, seed=1)
    for position in range(3):
        assert batches.batch(position).shape == (4, 3, 5, 32, 32)
    assert clips[0].clip_id in caplog.text


def test_clips_that_are_all_too_short_are_an_error_with_the_way_out(clips):
    with pytest.raises(UserError, match=r"data\.frames"):
        FrameBatches(clips, DATA.model_copy(update={"frames": 13}), seed=1)
