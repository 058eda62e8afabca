"""The objective of W.A.L.T with its transformers: base by class and by text, and super-resolution."""

from dataclasses import replace

import pytest
import torch

from models.diffusion import (
    Conditions,
    FramePrediction,
    Guided,
    InputChannels,
    NoiseAugmentation,
    Reference,
    VPrediction,
)
from models.transformers.presets import PRESETS, preset

WALT = VPrediction(channels=InputChannels(estimate=True, frames=True), self_conditioning=0.9)
NAMES = ["walt-xl-tiny", "walt-t2v-l-tiny", "walt-sr-2x-tiny"]
BATCH = 2


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module", params=NAMES)
def name(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def model(name):
    torch.manual_seed(0)
    built = preset(name)
    for parameter in built.parameters():  # nothing starts without effect
        torch.nn.init.normal_(parameter, std=0.1)
    return built


@pytest.fixture(scope="module")
def latents(name) -> torch.Tensor:
    return torch.randn(BATCH, *PRESETS[name].latent, generator=seeded(1))


@pytest.fixture(scope="module")
def told(model, latents) -> Conditions:
    config = model.config
    tokens = 0 if config["text"]["kind"] == "none" else config["max_text_tokens"]
    conditions = Conditions(
        text=torch.randn(BATCH, tokens, config["caption_channels"], generator=seeded(2)),
        text_mask=torch.ones(BATCH, tokens),
        fps=torch.full((BATCH,), 8.0),
        size=torch.full((BATCH, 2), 128.0),
        label=None if tokens else torch.tensor([3, 100]),
    )
    if config["low_resolution_channels"]:
        small = torch.nn.functional.avg_pool3d(latents, (1, 2, 2))
        augmentation = NoiseAugmentation(max_time=300)
        return augmentation.applied(conditions, small, augmentation.draw(small, seeded(3)))
    return conditions


def test_the_channels_of_the_model_are_those_of_the_objective(model, latents):
    assert model.config.in_channels == WALT.channels.count(latents.shape[1])


def test_a_training_step_reaches_every_parameter(model, latents, told):
    draw = WALT.draw(latents, seeded(4))
    mask = FramePrediction(probability=1.0).draw(BATCH, latents.shape[2], seeded(5))
    losses = WALT.loss(model, latents, told, draw, mask)
    assert losses.shape == (BATCH,)
    model.zero_grad()
    losses.mean().backward()
    silent = [
        name
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and (parameter.grad is None or not parameter.grad.any())
    ]
    assert silent == []


@torch.no_grad()
def test_guided_sampling_keeps_the_given_frames(model, latents, told):
    null = replace(told, label=torch.full((BATCH,), 101)) if told.label is not None else told
    if told.label is None:
        null = replace(told, text=model.null_text(told.text))
    strength = torch.ones(BATCH, latents.shape[2])
    strength[:, :2] = 0
    guided = Guided(model.eval(), told, null, 3.0, 0.7)
    noise = torch.randn(latents.shape, generator=seeded(6))
    made = WALT.sample(guided, noise, 4, reference=Reference(latents, strength))
    assert made.isfinite().all()
    assert torch.equal(made[:, :, :2], latents[:, :, :2])
    other = WALT.sample(replace(guided, conditions=null), noise, 4, reference=Reference(latents, strength))
    assert not torch.allclose(made, other)  # the condition has an effect
