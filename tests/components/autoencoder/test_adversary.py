"""The discriminator beside a codec, against two players who are trained apart."""

import pytest
import torch
from torch.nn import functional

from components.autoencoder.adversary import Adversary
from components.autoencoder.config import (
    AdversarialConfig,
    CausalStageConfig,
    DiscriminatorModelConfig,
    ReconstructionConfig,
)
from components.autoencoder.objectives import PixelObjective, pixel_objective
from components.autoencoder.program import AutoencoderProgram
from components.errors import UserError
from models.autoencoders.presets import AUTOENCODERS

SMALL = DiscriminatorModelConfig(filters=4, multipliers=(2, 2))
WEIGHTS = ReconstructionConfig(l1=0.0, mse=1.0, saturation=0.0, kl=0.0)
MODEL = {
    "filters": 8,
    "multipliers": (1, 1),
    "blocks": 1,
    "spatial_downsample": (True,),
    "temporal_downsample": (True,),
    "latent_channels": 4,
    "norm_groups": 4,
}
STAGE = {
    "model": MODEL,
    "steps": 4,
    "seed": 1,
    "optimizer": {"lr": 1e-3},
    "data": {"height": 16, "width": 16, "fps": 8, "frames": 5, "batch": 2},
    "loss": WEIGHTS.model_dump(),
}


def adversarial(**changes):
    return AdversarialConfig(loss="non-saturating", weight=0.1, model=SMALL, **changes)


def adversary(config):
    torch.manual_seed(3)
    return Adversary(config, (5, 16, 16))


def clips(seed=0):
    return torch.rand(2, 3, 5, 16, 16, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def objective(config):
    torch.manual_seed(5)
    codec = AUTOENCODERS["walt-causal-3d-tiny"].build()
    return PixelObjective(codec, WEIGHTS, adversary=adversary(config))


def gradients(module):
    return {name: value.grad for name, value in module.named_parameters() if value.grad is not None}


def test_the_sum_has_the_gradients_of_two_players_who_are_trained_apart():
    config = adversarial(r1=2.0)
    together, apart = objective(config), objective(config)
    target = clips()
    loss = together(target, torch.Generator().manual_seed(0))
    loss.total.backward()

    output = apart.codec(target, torch.Generator().manual_seed(0)).output
    judge = apart.adversary.discriminator
    own = functional.softplus(-judge(target)).mean() + functional.softplus(judge(output.detach())).mean()
    pixels = target.clone().requires_grad_(True)
    (slope,) = torch.autograd.grad(judge(pixels).sum(), pixels, create_graph=True)
    (own + 2.0 * slope.square().sum(dim=(1, 2, 3, 4)).mean()).backward()
    for parameter in judge.parameters():
        parameter.requires_grad_(False)
    codec_loss = (output - target).square().mean() + 0.1 * functional.softplus(-judge(output)).mean()
    codec_loss.backward()

    expected, found = gradients(apart), gradients(together)
    assert found.keys() == expected.keys()
    for name, value in found.items():
        torch.testing.assert_close(value, expected[name], atol=1e-6, rtol=1e-4, msg=name)
    torch.testing.assert_close(loss.terms["generator"] + loss.terms["reconstruction"], codec_loss.detach())


def test_an_adaptive_term_pulls_at_the_last_layer_as_hard_as_the_reconstruction():
    trained = objective(adversarial(adaptive=True))
    loss = trained(clips(), torch.Generator().manual_seed(0))
    last = trained.codec.last_layer
    lengths = [
        torch.autograd.grad(loss.terms[name], last, retain_graph=True)[0].norm().item()
        for name in ("reconstruction", "generator")
    ]
    assert lengths[1] == pytest.approx(0.1 * lengths[0], rel=0.02)  # eps of the ratio
    assert last.shape[0] == 3  # it makes the pixels


def test_before_its_start_the_adversary_does_nothing():
    trained = objective(adversarial(start=3))
    before = trained(clips(), torch.Generator().manual_seed(0), step=2)
    assert set(before.terms) == {"reconstruction", "kl"}
    assert "discriminator" in trained(clips(), torch.Generator().manual_seed(0), step=3).terms


def test_the_program_counts_optimizer_steps_over_accumulation_and_processes():
    seen = []

    class Heard(PixelObjective):
        def forward(self, frames, generator, *, step=0):
            seen.append(step)
            return super().forward(frames, generator, step=step)

    class Noise:
        def batch(self, position, frames=None):
            return clips(position)

    trained = Heard(AUTOENCODERS["walt-causal-3d-tiny"].build(), WEIGHTS)
    program = AutoencoderProgram(trained, Noise(), frames=5, step_batches=4)
    for position in (0, 3, 4, 9):
        program.step(trained, position, torch.Generator())
    assert seen == [0, 0, 1, 2]


def test_training_both_teaches_the_discriminator_and_moves_the_running_means():
    """The codec is held, so what it makes stays told apart from the clips more and more easily."""
    trained = objective(adversarial(lecam=0.001, lecam_decay=0.5))
    trained.codec.requires_grad_(False)
    optimizer = torch.optim.AdamW(trained.adversary.discriminator.parameters(), lr=3e-3, betas=(0.0, 0.99))
    losses = []
    for step in range(40):
        made = trained.codec(clips(step), torch.Generator().manual_seed(step)).output
        terms = trained.adversary.own_terms(made, clips(step))
        optimizer.zero_grad()
        torch.stack(list(terms.values())).sum().backward()
        optimizer.step()
        losses.append(terms["discriminator"].item())
    assert sum(losses[-5:]) < 0.5 * sum(losses[:5])
    means = trained.adversary.lecam
    assert means.mean_real > means.mean_made


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"image_share": 0.2}, "set image_share to 0"),
        ({"mixed_lengths": True}, "mixed_lengths to false"),
        ({"adversarial": {"loss": "hinge", "weight": 0.5, "start": 4}}, "not before the end, 4 steps"),
    ],
)
def test_settings_that_cannot_work_are_refused(changes, words):
    section = {**STAGE, "adversarial": {"loss": "hinge", "weight": 0.5}, **changes}
    with pytest.raises(ValueError, match=words):
        CausalStageConfig.model_validate(section)


def test_perceptual_weights_that_are_not_there_are_refused_by_name(tmp_path):
    perceptual = {"weight": 0.1, "vgg": "weights/vgg16.pth", "heads": "weights/lpips.pth"}
    config = CausalStageConfig.model_validate({**STAGE, "perceptual": perceptual})
    with pytest.raises(UserError, match=r"vgg16\.pth"):
        pixel_objective(AUTOENCODERS["walt-causal-3d-tiny"].build(), config, tmp_path)
