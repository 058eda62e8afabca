"""Our loss and sampler beside a second implementation, written from the published description step by step.

It works on one array per sample in float64 where it can, knows nothing of our classes, and shares only the
network, its noise and its times with them.
"""

import math

import pytest
import torch

from models.diffusion import Conditions, Draw, Guided, RectifiedFlow, Reference, Times
from tests.tiny_parts import tiny_transformer

B, C, T, H, W, L = 2, 4, 6, 4, 6, 7
SIZE = (32, 48)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def network():
    model = tiny_transformer()
    with torch.no_grad():  # velocities of the size of a trained model's
        model.final.projection.weight.mul_(0.1)
    return model


@pytest.fixture(scope="module")
def told() -> Conditions:
    mask = torch.zeros(B, L)
    mask[0, :3], mask[1, :] = 1, 1
    return Conditions(
        text=normal(B, L, 32, seed=7),
        text_mask=mask,
        fps=torch.tensor([8.0, 24.0]),
        size=torch.tensor([SIZE] * B, dtype=torch.float32),
    )


def transformed(time: float, latent_frames: int) -> float:
    """t in 0..1000 -> t', by the formula; with a 512 px base."""
    ratio = math.sqrt(SIZE[0] * SIZE[1] / 512**2) * math.sqrt(latent_frames)
    share = time / 1000
    return 1000 * ratio * share / (1 + (ratio - 1) * share)


def call(network, told, z, time, text, mask=None):
    """One sample through the network: the first channels of its output, in float64."""

    def one(value, sample):
        return value[sample : sample + 1]

    rows = [
        network(
            one(z, b).float(),
            torch.tensor([time[b]]),
            one(text, b),
            one(told.text_mask, b),
            fps=one(told.fps, b),
            size=one(told.size, b),
            frame_mask=None if mask is None else one(mask, b),
        )
        for b in range(B)
    ]
    return torch.cat(rows)[:, :C].double()


MASKS = {
    "unmasked": None,
    "first frame": [[0, 1, 1, 1, 1, 1]] * 2,
    "differently": [[0, 1, 1, 1, 1, 0], [1, 0, 1, 0, 1, 0]],
}


@torch.no_grad()
@pytest.mark.parametrize("rows", MASKS.values(), ids=MASKS)
def test_the_loss_agrees(network, told, rows):
    x0, noise = normal(B, C, T, H, W), normal(B, C, T, H, W, seed=1)
    drawn = [412.5, 871.25]
    times = [transformed(time, T) for time in drawn]
    mask = None if rows is None else torch.tensor(rows, dtype=torch.bool)
    flow = RectifiedFlow(Times(distribution="logit-normal", shift=True))
    moved = flow.times.shifted(torch.tensor(drawn), told.size, latent_frames=T)
    assert moved.tolist() == pytest.approx(times, abs=1e-4)
    ours = flow.loss(network, x0, told, Draw(noise, moved), mask)

    x_t = torch.empty(B, C, T, H, W, dtype=torch.float64)
    for b in range(B):
        for f in range(T):
            share = times[b] / 1000 if mask is None or mask[b, f] else 0.0
            x_t[b, :, f] = (1 - share) * x0[b, :, f].double() + share * noise[b, :, f].double()
    velocity = call(network, told, x_t, times, told.text, mask)
    squares = (velocity - (x0 - noise).double()) ** 2
    for b in range(B):
        frames = [f for f in range(T) if mask is None or mask[b, f]]
        theirs = sum(squares[b, :, f].sum().item() for f in frames) / (len(frames) * C * H * W)
        assert ours[b].item() == pytest.approx(theirs, rel=1e-6)


STRENGTHS = {
    "unmasked": None,
    "all generated": [[1.0] * T] * 2,
    "first frame kept": [[0, 1, 1, 1, 1, 1]] * 2,
    "kept, edited and generated": [[0, 0, 0.4, 0.6, 1, 1], [1, 0.25, 1, 0.9, 0, 1]],
}


@torch.no_grad()
@pytest.mark.parametrize("rows", STRENGTHS.values(), ids=STRENGTHS)
def test_four_guided_sampling_steps_agree(network, told, rows):
    noise, given, scale, steps = normal(B, C, T, H, W, seed=2), normal(B, C, T, H, W, seed=3), 7.0, 4
    reference = None if rows is None else Reference(given, torch.tensor(rows, dtype=torch.float32))
    null = Conditions(**{**told.present(), "text": network.null_text(told.text)})
    flow = RectifiedFlow(Times(shift=True))
    ours = flow.sample(Guided(network, told, null, scale), noise, steps, reference=reference)

    times = [transformed((1 - i / steps) * 1000, T) for i in range(steps)]
    z, strength = noise.double().clone(), None
    if rows is not None:
        strength = torch.tensor(rows, dtype=torch.float64)
        kept = (strength < 1)[:, None, :, None, None]
        z = torch.where(kept, given.double(), z)
        noised_already = strength == 1
    for i, time in enumerate(times):
        active = None
        if strength is not None:
            active = strength * 1000 >= time
            starting = active & ~noised_already
            level = (1 - time / 1000) * z + time / 1000 * noise.double()
            z = torch.where(starting[:, None, :, None, None], level, z)
            noised_already = active
        here = [time] * B
        conditional = call(network, told, z, here, told.text, active)
        unconditional = call(network, told, z, here, null.text, active)
        velocity = unconditional + scale * (conditional - unconditional)
        following = times[i + 1] if i + 1 < steps else 0.0
        moved = z + velocity * (time - following) / 1000
        z = moved if active is None else torch.where(active[:, None, :, None, None], moved, z)
    assert z.std() > 0.5
    assert (ours.double() - z).abs().max().item() <= 1e-5


def test_the_times_of_four_steps_are_those_of_the_formula(told):
    rows = Times(shift=True).schedule(4, told.size, latent_frames=T)
    expected = [transformed(time, T) for time in (1000, 750, 500, 250, 0)]
    assert rows[:, 0].tolist() == pytest.approx(expected, abs=1e-3)
