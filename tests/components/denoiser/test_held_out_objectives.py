"""The validation loss of every objective beside rectified flow, against its definition written out."""

import pytest
import torch
from diffusers import DDPMScheduler

from components.data.config import BatchesConfig
from components.data.latents import LatentStore
from components.data.loader import LatentBatches
from components.denoiser.fixed_losses import from_noise
from components.denoiser.held_out import HeldOutLoss
from components.denoiser.low_resolution import LowResolution
from components.denoiser.v_prediction import FixedTasks, Upsampling
from components.training.config import ValidationConfig
from models.diffusion import IMAGE_FPS, FramePrediction, InputChannels, NoiseAugmentation, Times, VPrediction
from models.diffusion.blockwise_flow import BlockwiseFlow
from models.diffusion.epsilon import EpsilonDiffusion
from models.diffusion.fixed_draws import fixed_noise
from models.transformers.causal import FrameBlocks, TeacherForcing
from models.transformers.convert import build
from models.transformers.presets import PRESETS
from tests.tiny_systems import CHANNELS, Workspace

SEED, LEVELS, CLIPS = 9, 3, 2
WALT = VPrediction(channels=InputChannels(estimate=True, frames=True), self_conditioning=0.9)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    return Workspace(tmp_path_factory.mktemp("held_out"))


def model_of(preset, **changes):
    """With every weight drawn, so that every input has an effect."""
    model = build({**PRESETS[preset].config, "max_text_tokens": 12, "caption_channels": 32, **changes}, 0)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return model.eval()


def look(workspace, losses, model, **buckets):
    """What is found on two clips of each bucket, and the batches it was found on."""
    wanted = {name: dict.fromkeys(lengths, (1.0, 4)) for name, lengths in buckets.items()}
    config = BatchesConfig(buckets=wanted, seed=0, small_bucket="repeat")
    store = LatentStore(workspace.latents, root=workspace.root)
    settings = ValidationConfig(samples=CLIPS, times=LEVELS, seed=SEED)
    check = HeldOutLoss(store, config, losses, settings, split="train")
    with torch.no_grad():
        return check.look(model, 1).metrics, check.batches


def mean_of(batch, error):
    """Over clips and levels of `error(clip's clean latents, their noise, share of noise, row of the batch)`."""
    found = []
    for row, clip in enumerate(batch.clip_ids):
        clean = batch.latents[row : row + 1]
        noise = fixed_noise(clip, SEED, LEVELS, clean.shape[1:])
        for level in range(LEVELS):
            with torch.no_grad():
                found.append(float(error(clean, noise[level : level + 1], (level + 1) / (LEVELS + 1), row)))
    return sum(found) / len(found)


def told(batch, row, clean):
    text = {"text": batch.text[row : row + 1], "text_mask": batch.text_mask[row : row + 1]}
    fps = torch.tensor([IMAGE_FPS if clean.shape[2] == 1 else 8.0])
    return {**text, "fps": fps, "size": batch.size[row : row + 1]}


def signal_of(time):
    """sqrt(g), sqrt(1 - g) of linear betas that are rescaled to zero terminal SNR (Lin et al. 2023)."""
    root = torch.cumprod(1 - torch.linspace(1e-4, 2e-2, 1000, dtype=torch.float64), 0).sqrt()
    root = (root - root[-1]) * root[0] / (root[0] - root[-1])
    return float(root[time]), float((1 - root[time] ** 2).sqrt())


def v_error(model, clean, noise, share, given, **conditions):
    """Two passes: the second reads the first one's estimate. `given` first frames are shown and do not count."""
    time = torch.tensor([int(1000 * share)])
    a, b = signal_of(int(time))
    noisy = a * clean + b * noise
    shown, marks = torch.zeros_like(clean), torch.zeros_like(clean[:, :1])
    shown[:, :, :given], marks[:, :, :given] = clean[:, :, :given], 1.0

    def said(estimate):
        read = torch.cat([noisy, estimate, shown, marks], dim=1)
        return model(read, time, **conditions)

    estimate = a * noisy - b * said(torch.zeros_like(clean))
    estimate[:, :, :given] = clean[:, :, :given]
    return (said(estimate) - (a * noise - b * clean))[:, :, given:].square().mean()


def test_v_prediction_is_measured_from_noise_and_with_frames_given(workspace):
    model = model_of("walt-t2v-l-tiny")
    found, batches = look(workspace, FixedTasks(WALT, FramePrediction(longest=2)), model, **{"16px": [1, 9]})
    expected = {}
    for batch in batches:
        for given in (0, 1, 2) if batch.latents.shape[2] > 1 else (0,):

            def error(clean, noise, share, row, batch=batch, given=given):
                stack = {"images": torch.ones(1, dtype=torch.bool)} if clean.shape[2] == 1 else {}
                return v_error(model, clean, noise, share, given, **told(batch, row, clean), **stack)

            name = f"val/loss_{batch.bucket}" + (f"_given{given}" if given else "")
            expected[name] = mean_of(batch, error)
    assert set(expected) == {
        "val/loss_1x16x16",
        "val/loss_9x16x16",
        "val/loss_9x16x16_given1",
        "val/loss_9x16x16_given2",
    }
    assert set(found) == {"val/loss", *expected}
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=1e-4), name
    assert found["val/loss"] == pytest.approx(sum(expected.values()) / 4, rel=1e-4)


def test_super_resolution_is_measured_with_fixed_noise_on_its_low_resolution(workspace):
    pattern = {"spatial": {"size": [1, 4, 4]}, "spatiotemporal": {"size": [5, 2, 2]}}
    model = model_of("walt-sr-2x-tiny", positions={"kind": "learned", "grid": [5, 4, 4]}, pattern=pattern)
    buckets = {"32px": {9: (1.0, 4)}}
    config = BatchesConfig(buckets=buckets, seed=0, small_bucket="repeat")
    source = LowResolution(LatentBatches(workspace.latents, root=workspace.root, config=config), "16px")
    losses = FixedTasks(
        WALT, FramePrediction(probability=0), Upsampling(source, NoiseAugmentation(max_time=301))
    )
    found, (batch,) = look(workspace, losses, model, **{"32px": [9]})
    low = source.read(batch)

    def error(clean, noise, share, row):
        a, b = signal_of(150)
        own = fixed_noise(f"{batch.clip_ids[row]}:low", SEED, 1, low.shape[1:])
        noised = a * low[row : row + 1] + b * own
        more = {"low_resolution": noised, "t_sr": torch.tensor([150])}
        return v_error(model, clean, noise, share, 0, **told(batch, row, clean), **more)

    assert set(found) == {"val/loss", "val/loss_9x32x32"}
    assert found["val/loss_9x32x32"] == pytest.approx(mean_of(batch, error), rel=1e-4)


def test_teacher_forcing_is_measured_with_all_blocks_at_one_time(workspace):
    blocks = {"size": 2, "first": 1}
    model = model_of("causal-5b-tiny", frame_blocks=blocks, in_channels=CHANNELS, out_channels=CHANNELS)
    flow = BlockwiseFlow(times=Times(), blocks=FrameBlocks(**blocks))
    found, (batch,) = look(workspace, from_noise(flow), model, **{"16px": [9]})

    def error(clean, noise, share, row):
        frames = clean.shape[2]
        both = torch.cat([clean, (1 - share) * clean + share * noise], dim=2)
        times = torch.tensor([[0.0] * frames + [1000 * share] * frames])
        said = model(both, times, **told(batch, row, clean), cache=TeacherForcing())
        return (said[:, :, frames:] - (clean - noise)).square().mean()

    assert found["val/loss_9x16x16"] == pytest.approx(mean_of(batch, error), rel=1e-4)


def test_noise_prediction_is_measured_at_whole_times(workspace):
    model = model_of("causal-5b-tiny", in_channels=CHANNELS, out_channels=CHANNELS)
    found, (batch,) = look(workspace, from_noise(EpsilonDiffusion()), model, **{"16px": [1]})
    scheduler = DDPMScheduler(1000, 1e-4, 2e-2, "linear")

    def error(clean, noise, share, row):
        time = torch.tensor([int(1000 * share)])
        noisy = scheduler.add_noise(clean, noise, time)
        return (model(noisy, time, **told(batch, row, clean)) - noise).square().mean()

    assert found["val/loss_1x16x16"] == pytest.approx(mean_of(batch, error), rel=1e-4)


STAGES = {
    "hdvila@stage1": ({"preset": "hdvila-hourglass-tiny"}, {"16px": {9: (1.0, 4)}}, {"9x16x16"}),
    "causal@stage1": (
        {"preset": "causal-5b-tiny", "changes": {"frame_blocks": {"size": 2, "first": 1}}},
        {"16px": {1: (1.0, 4), 9: (1.0, 4)}},
        {"1x16x16", "9x16x16"},
    ),
    "walt@base": (
        {"preset": "walt-t2v-l-tiny"},
        {"16px": {1: (1.0, 5), 9: (1.0, 4)}},
        {"1x16x16", "9x16x16", "9x16x16_given1", "9x16x16_given2"},
    ),
    "walt@super_resolution_1": (
        {
            "preset": "walt-sr-2x-tiny",
            "changes": {"positions": {"kind": "learned", "grid": [5, 4, 6]}}
            | {"pattern": {"spatial": {"size": [1, 4, 6]}, "spatiotemporal": {"size": [5, 2, 3]}}},
        },
        {"39px": {1: (1.0, 5), 9: (1.0, 4)}},
        {"1x32x48", "9x32x48", "9x32x48_given1", "9x32x48_given2"},
    ),
}


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_of_every_system_looks_at_held_out_clips(tmp_path, stage, caplog):
    model, buckets, names = STAGES[stage]
    caplog.set_level("INFO")
    validation = {"steps": 1, "samples": 2, "times": 1}
    Workspace(tmp_path, held_out=2).run(stage, buckets, model=model, steps=2, validation=validation)
    looks = [record.message for record in caplog.records if "val/loss" in record.message]
    assert [line.split()[1] for line in looks] == ["1/2", "2/2"]
    assert {word for word in looks[0].split() if word.startswith("val/")} == {
        "val/loss",
        *(f"val/loss_{name}" for name in names),
    }
