"""Noise schedules: the published table, and what zero terminal SNR promises."""

import pytest
import torch
from diffusers.schedulers.scheduling_ddim import rescale_zero_terminal_snr

from models.diffusion import NoiseSchedule

# step: signal share g before and after rescaling, linear betas 1e-4..0.02
PUBLISHED = {
    0: (0.99990000, 0.99990000),
    99: (0.89701815, 0.89637831),
    249: (0.52408537, 0.52153334),
    499: (0.07858724, 0.07602875),
    749: (0.00335055, 0.00268952),
    899: (0.00027521, 0.00010613),
    999: (4.036e-5, 0.0),
}


@pytest.mark.parametrize("step", PUBLISHED)
def test_the_signal_share_is_the_published_one(step):
    plain, rescaled = (NoiseSchedule(zero_terminal_snr=zero).signal()[step].item() for zero in (False, True))
    assert plain == pytest.approx(PUBLISHED[step][0], abs=5.1e-9)
    assert rescaled == pytest.approx(PUBLISHED[step][1], abs=5.1e-9)


def test_the_rescaled_schedule_is_that_of_diffusers():
    betas = torch.linspace(1e-4, 2e-2, 1000, dtype=torch.float64)
    theirs = torch.cumprod(1 - rescale_zero_terminal_snr(betas), dim=0)
    assert torch.allclose(NoiseSchedule().signal(), theirs, atol=1e-12)


def test_the_last_step_is_pure_noise():
    latents, noise = torch.randn(1, 2, 1, 3, 3), torch.randn(1, 2, 1, 3, 3)
    assert torch.equal(NoiseSchedule().noised(latents, noise, torch.tensor([999])), noise)
    leaking = NoiseSchedule(zero_terminal_snr=False).noised(latents, noise, torch.tensor([999]))
    assert not torch.allclose(leaking, noise, atol=1e-3)


def test_noised_latents_keep_unit_variance():
    latents, noise = torch.randn(5, 4, 2, 32, 32), torch.randn(5, 4, 2, 32, 32)
    noisy = NoiseSchedule().noised(latents, noise, torch.tensor([0, 250, 500, 750, 999]))
    assert torch.allclose(noisy.var(dim=(1, 2, 3, 4)), torch.ones(5), atol=0.06)


def test_fifty_trailing_steps_are_those_published():
    assert NoiseSchedule().trailing(50) == list(range(999, 0, -20))


@pytest.mark.parametrize("count", [1, 3, 7, 30, 1000])
def test_every_number_of_trailing_steps_starts_at_pure_noise_and_falls(count):
    times = NoiseSchedule().trailing(count)
    assert len(times) == count
    assert times[0] == 999
    assert times == sorted(set(times), reverse=True)
    assert times[-1] >= 0


@pytest.mark.parametrize("count", [0, 1001])
def test_a_number_of_steps_that_the_schedule_does_not_have_is_refused(count):
    with pytest.raises(ValueError, match="1 to 1000 steps"):
        NoiseSchedule().trailing(count)


def test_times_between_two_steps_are_refused():
    with pytest.raises(ValueError, match="whole numbers"):
        NoiseSchedule().shares(torch.tensor([3.5]))
