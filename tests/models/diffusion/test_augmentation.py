"""Noise on the input of a super-resolution stage: the diffusion's own noise, at a time that the model is told."""

import pytest
import torch

from models.diffusion import Conditions, Draw, NoiseAugmentation, NoiseSchedule

SHAPE = (3, 4, 2, 5, 6)
TOLD = Conditions(
    text=torch.zeros(3, 1, 2), text_mask=torch.ones(3, 1), fps=torch.ones(3), size=torch.ones(3, 2)
)


def test_the_noised_latents_and_their_time_become_conditions():
    latents, noise, times = torch.randn(SHAPE), torch.randn(SHAPE), torch.tensor([0, 150, 300])
    told = NoiseAugmentation(max_time=300).applied(TOLD, latents, Draw(noise, times))
    share = NoiseSchedule().signal()[times][:, None, None, None, None]
    expected = share.sqrt() * latents.double() + (1 - share).sqrt() * noise.double()
    assert torch.allclose(told.low_resolution.double(), expected, atol=1e-6)
    assert torch.equal(told.t_sr, times)
    assert told.text is TOLD.text


def test_times_are_even_from_zero_to_the_largest():
    draw = NoiseAugmentation(max_time=9).draw(
        torch.zeros(20_000, 1, 1, 1, 1), torch.Generator().manual_seed(0)
    )
    shares = torch.bincount(draw.times) / 20_000
    assert len(shares) == 10
    assert (shares - 0.1).abs().max() < 0.01
    assert draw.noise.std().item() == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("time", [-1, 1000])
def test_a_time_that_the_schedule_does_not_have_is_refused(time):
    with pytest.raises(ValueError, match=r"0\.\.999"):
        NoiseAugmentation(max_time=time)
