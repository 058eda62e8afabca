"""What cannot be trained is refused before the first step, with the way out."""

import pytest

from components.errors import ContractError, UserError
from components.stages import execute
from tests.stage_workspace import STAGE, make_workspace
from tests.tiny_latents import make_latents

SHAPES = [(1, 16, 16), (5, 16, 16), (5, 16, 24)]


def assert_untouched(root):
    assert not (root / "checkpoints" / STAGE).exists()
    assert not (root / "artifacts/train").exists()


def test_latents_of_another_autoencoder(tmp_path):
    root = make_workspace(tmp_path)
    make_latents(root, "videos", SHAPES, weights="b")
    with pytest.raises(
        ContractError, match=r"another autoencoder \(weights_sha256 differ\); encode the clips again"
    ):
        execute(STAGE, root)
    assert_untouched(root)


def test_a_bucket_that_was_not_encoded(tmp_path):
    root = make_workspace(tmp_path)
    text = (root / "params.yaml").read_text()
    (root / "params.yaml").write_text(text.replace("16px:", "64px:"))
    with pytest.raises(
        UserError, match=r"none of the requested buckets .* holds 16px x 1, 16px x 5.*add the bucket"
    ):
        execute(STAGE, root)
    assert_untouched(root)


def test_a_bucket_whose_clips_the_processes_cannot_share(tmp_path, monkeypatch):
    """Refused at the start, and not when the first batch of that bucket comes."""
    root = make_workspace(tmp_path, sequence_parallel=3)  # of 16 x 24 px, which are 2 x 3 tokens
    monkeypatch.setenv("WORLD_SIZE", "3")
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(
        UserError, match=r"bucket .*x16x16: 2 x 2 tokens cannot be divided among 3.*resolutions"
    ):
        execute(STAGE, root)
    assert_untouched(root)


def test_more_processes_than_samples(tmp_path, monkeypatch):
    root = make_workspace(tmp_path)
    monkeypatch.setenv("WORLD_SIZE", "16")
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(UserError, match=r"videos.json has 15 samples .* 16 processes.*Start at most 15"):
        execute(STAGE, root)
    assert_untouched(root)
