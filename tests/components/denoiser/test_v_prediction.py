"""The program of W.A.L.T: ranks split batches alike, images stand in for clips, low resolution goes with its clip."""

import json
from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from components.data.config import BatchesConfig
from components.data.loader import LatentBatches
from components.denoiser.low_resolution import LowResolution
from components.denoiser.programs import Feed
from components.denoiser.stacks import stacked
from components.denoiser.v_prediction import Upsampling, VPredictionProgram
from components.errors import ContractError
from models.diffusion import FramePrediction, InputChannels, NoiseAugmentation, VPrediction
from models.transformers.convert import build
from models.transformers.presets import PRESETS
from tests import two_ranks
from tests.tiny_latents import contract
from tests.tiny_split import BATCH, STEPS
from tests.tiny_systems import make_system_latents

KINDS = [
    ("16px", (1, 16, 16), (8, 1, 4, 4)),
    ("16px", (9, 16, 16), (8, 5, 4, 4)),
    ("32px", (1, 32, 32), (8, 1, 8, 8)),
    ("32px", (9, 32, 32), (8, 5, 8, 8)),
]
WALT = VPrediction(channels=InputChannels(estimate=True, frames=True), self_conditioning=0.9)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("walt")
    make_system_latents(folder, KINDS, contract(8))
    return folder


def batches_of(root, resolution, *frames, batch=5):
    buckets = {resolution: dict.fromkeys(frames, (1.0, batch))}
    config = BatchesConfig(buckets=buckets, seed=0, small_bucket="repeat")
    return LatentBatches(root / "artifacts/latents/tiny.json", root=root, config=config)


def model_of(name="walt-t2v-l-tiny"):
    """With every weight drawn, so that every input has an effect."""
    model = build({**PRESETS[name].config, "max_text_tokens": 12, "caption_channels": 32}, 0)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return model


def program_of(batches, model, **changes):
    given = FramePrediction(probability=0.5)
    return VPredictionProgram(
        model, Feed(batches, 0.1), WALT, **{"given": given, "stack": 5, "seed": 1, **changes}
    )


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def test_two_ranks_split_their_batches_alike_under_zero_3(root, tmp_path):
    """Each step has a pass for the estimate and one with gradients, and as many samples of it see one on both ranks."""
    (tmp_path / "artifacts").symlink_to(root / "artifacts")
    (tmp_path / "store").symlink_to(root / "store")
    two_ranks.run("tests.tiny_split", tmp_path, tmp_path / "artifacts/latents/tiny.json")
    passes = [json.loads((tmp_path / f"rank-{rank}.json").read_text()) for rank in (0, 1)]
    assert passes[0] == passes[1]
    first, second = passes[0][::2], passes[0][1::2]
    assert first == [[BATCH, 0]] * STEPS
    shares = {seen for _, seen in second}
    assert shares == {4, 5}  # 0.9 of five samples is four and a half
    assert [size for size, _ in second] == [BATCH] * STEPS


def test_the_share_of_samples_that_see_an_estimate_is_the_one_asked_for(root):
    program = program_of(batches_of(root, "16px", 9), model_of())
    program.step_batches = 4
    coins = [program.coin(position) for position in range(4000)]
    assert all(len(set(coins[start : start + 4])) == 1 for start in range(0, 4000, 4))  # one per step
    seen = [np.floor(0.9 * 5 + coin) for coin in coins]
    assert abs(np.mean(seen) / 5 - 0.9) < 0.005


def test_a_step_is_a_function_of_position_and_generator(root):
    program = program_of(batches_of(root, "16px", 1, 9), model_of())
    with torch.no_grad():
        losses = [
            program.step(program.module, position, rng(seed)).loss.item()
            for position, seed in ((0, 1), (1, 2), (0, 1))
        ]
    assert losses[0] == losses[2] != losses[1]


def test_a_stack_holds_the_images_with_their_captions_in_order(root):
    model, batches = model_of(), batches_of(root, "16px", 1, batch=10)
    fed = Feed(batches, 0.0).read(0, model, rng())
    stack = stacked(fed, 5)
    assert stack.latents.shape == (2, 8, 5, 4, 4)
    assert stack.conditions.text.shape[:2] == (2, 5)
    assert stack.conditions.images.tolist() == [True, True]
    for index in range(10):
        sample, frame = divmod(index, 5)
        assert torch.equal(stack.latents[sample, :, frame], fed.latents[index, :, 0])
        assert torch.equal(stack.conditions.text[sample, frame], fed.conditions.text[index])
        assert torch.equal(stack.conditions.text_mask[sample, frame], fed.conditions.text_mask[index])


@torch.no_grad()
def test_images_of_a_stack_learn_as_if_they_were_alone(root):
    """Changing the other four images and their captions leaves the prediction for one as it is."""
    model, batches = model_of().eval(), batches_of(root, "16px", 1, batch=5)
    stack = stacked(Feed(batches, 0.0).read(0, model, rng()), 5)
    beside = WALT.channels.beside(stack.latents)

    def predicted(latents, text):
        told = replace(stack.conditions, text=text)
        return model(
            torch.cat((latents, beside), dim=1),
            torch.tensor([500]),
            told.text,
            told.text_mask,
            images=told.images,
        )

    changed, text = stack.latents.clone(), stack.conditions.text.clone()
    changed[:, :, 1:] += 1
    text[:, 1:] += 1
    before, after = predicted(stack.latents, stack.conditions.text), predicted(changed, text)
    torch.testing.assert_close(before[:, :, 0], after[:, :, 0], rtol=0, atol=1e-6)
    assert (before[:, :, 1:] - after[:, :, 1:]).abs().max() > 1e-3


def test_frames_are_given_to_clips_and_never_to_stacks(root):
    model, shown = model_of(), {}

    def watching(latents, *_args, **extras):
        kind = "images" if "images" in extras else "videos"
        shown.setdefault(kind, []).append(latents[:, -1].flatten(1).any(dim=1))
        return torch.zeros_like(latents[:, :8])

    program = program_of(batches_of(root, "16px", 1, 9), model, given=FramePrediction(probability=1.0))
    for position in range(4):
        program.step(watching, position, rng(position))
    assert torch.cat(shown["videos"]).all()
    assert not torch.cat(shown["images"]).any()


def test_low_resolution_latents_are_those_of_the_same_clips(root):
    batches = batches_of(root, "32px", 1, 9)
    low = LowResolution(batches, "16px")
    whole = {1: batches_of(root, "16px", 1, batch=8), 9: batches_of(root, "16px", 9, batch=8)}
    for position in range(2):
        batch = batches.batch(position)
        frames = 1 if batch.latents.shape[2] == 1 else 9
        small = whole[frames].batch(0)
        by_clip = dict(zip(small.clip_ids, small.latents, strict=True))
        expected = torch.stack([by_clip[clip] for clip in batch.clip_ids])
        assert torch.equal(low.read(batch), expected)


def test_a_clip_without_its_low_resolution_is_named_before_training(root, tmp_path, monkeypatch):
    from components.data import latents

    rows = latents.LatentStore.rows

    def one_less(self, family):
        found = rows(self, family)
        if family.resolution == "32px":
            return found
        return latents.Rows(*(getattr(found, column.name)[:-1] for column in fields(found)))

    batches = batches_of(root, "32px", 9)
    monkeypatch.setattr(latents.LatentStore, "rows", one_less)
    with pytest.raises(ContractError, match="1 of 8 samples of bucket 32px 9x32x32 are not in 16px"):
        LowResolution(batches, "16px")


def test_super_resolution_is_told_of_noised_low_resolution_and_its_time(root):
    """g of the same schedule at t_sr: sqrt(g) low + sqrt(1 - g) noise, recovered from what the model is shown."""
    batches = batches_of(root, "32px", 9, batch=8)
    source = LowResolution(batches, "16px")
    augmentation = NoiseAugmentation(max_time=300)
    seen = []

    def watching(latents, *_args, low_resolution, t_sr, **_more):
        seen.append((low_resolution, t_sr))
        return torch.zeros_like(latents[:, :8])

    program = program_of(
        batches, model_of("walt-sr-2x-tiny"), upsampling=Upsampling(source, augmentation), seed=2
    )
    program.step(watching, 0, rng(5))
    noised, times = seen[-1]
    clean = source.read(batches.batch(0))
    signal = augmentation.schedule.signal()[times]
    noise = (noised - signal.sqrt().view(-1, 1, 1, 1, 1) * clean) / (1 - signal).sqrt().view(-1, 1, 1, 1, 1)
    assert noise.std(dim=(1, 2, 3, 4)).sub(1).abs().max() < 0.15
    assert noise.mean().abs() < 0.05
    assert ((times >= 0) & (times <= 300)).all()
    assert len(times.unique()) > 1
