"""The validation loss while a stage trains: fixed, of the averaged weights, and without any effect on the run."""

import pytest
import torch

from components.artifacts import sha256_of
from components.data.latents import LatentStore
from components.denoiser.fixed_losses import from_noise
from components.denoiser.held_out import HeldOutLoss
from components.params import Params
from components.stages import execute
from components.training.config import ValidationConfig
from components.training.program import VALIDATION_LOSS
from models.diffusion import IMAGE_FPS, Conditions, RectifiedFlow
from models.diffusion.fixed_draws import fixed_noise
from models.transformers.video_transformer import VideoTransformer
from tests.stage_workspace import STAGE, make_workspace

MADE = ("artifacts/train/stage1", f"curves/{STAGE}.csv", f"reports/{STAGE}.json")


def held_out_loss(root, config, split):
    buckets = Params.load(root / "params.yaml").section("train.stage1").batches
    store = LatentStore(root / "artifacts/latents/videos.json", root=root)
    return HeldOutLoss(store, buckets, from_noise(RectifiedFlow()), config, split=split)


def test_the_loss_is_that_of_the_definition(tmp_path):
    root = make_workspace(tmp_path)
    check = held_out_loss(root, ValidationConfig(samples=4, times=3, seed=9), "train")
    model = VideoTransformer.from_pretrained(root / "artifacts/adapt/masks").eval()
    with torch.no_grad():
        found = check.look(model, 5)
        losses = {}
        for batch in check.batches:
            for row, clip in enumerate(batch.clip_ids):
                clean = batch.latents[row : row + 1]
                noise = fixed_noise(clip, 9, 3, clean.shape[1:])
                fps = torch.tensor([IMAGE_FPS if clean.shape[2] == 1 else 8.0])
                conditions = Conditions(
                    text=batch.text[row : row + 1],
                    text_mask=batch.text_mask[row : row + 1],
                    fps=fps,
                    size=batch.size[row : row + 1],
                )
                for level in range(3):
                    share = (level + 1) / 4
                    noisy = (1 - share) * clean + share * noise[level : level + 1]
                    time = torch.tensor([1000 * share])
                    said = model(
                        noisy, time, conditions.text, conditions.text_mask, fps=fps, size=conditions.size
                    )
                    error = (said[:, :4] - (clean - noise[level : level + 1])).square().mean()
                    losses.setdefault(batch.bucket, []).append(float(error))
    assert len(losses) == 3  # each resolution, length and aspect that is asked for
    assert found.score == found.metrics[VALIDATION_LOSS]
    assert set(found.metrics) == {VALIDATION_LOSS, *(f"{VALIDATION_LOSS}_{name}" for name in losses)}
    for name, each in losses.items():
        assert len(each) == 4 * 3
        assert found.metrics[f"{VALIDATION_LOSS}_{name}"] == pytest.approx(sum(each) / 12, rel=1e-4)
    together = [loss for each in losses.values() for loss in each]
    assert found.metrics[VALIDATION_LOSS] == pytest.approx(sum(together) / len(together), rel=1e-4)


@pytest.mark.parametrize("zero_stage", [0, 1, 3])
def test_looking_changes_nothing_and_sees_the_averaged_weights(tmp_path, zero_stage, caplog):
    common = {"steps": 12, "checkpoint_steps": 4, "zero_stage": zero_stage, "latents": {"held_out": 2}}
    blind = make_workspace(tmp_path / "blind", **common)
    seeing = make_workspace(tmp_path / "seeing", **common, validation={"steps": 4, "samples": 2, "times": 2})
    execute(STAGE, blind)
    caplog.set_level("INFO")
    execute(STAGE, seeing)
    looks = [record.message for record in caplog.records if VALIDATION_LOSS in record.message]
    assert [line.split()[1] for line in looks] == ["4/12", "8/12", "12/12"]
    assert sha256_of(seeing / MADE[1]) == sha256_of(blind / MADE[1])
    for file in ("diffusion_pytorch_model.safetensors", "training.json"):
        assert sha256_of(seeing / MADE[0] / file) == sha256_of(blind / MADE[0] / file)
    model = VideoTransformer.from_pretrained(seeing / MADE[0]).eval()  # the average
    check = held_out_loss(seeing, ValidationConfig(samples=2, times=2), "validation")
    with torch.no_grad():
        expected = check.look(model, 12)
    assert f"{VALIDATION_LOSS} {expected.metrics[VALIDATION_LOSS]:.4g}" in looks[-1]
