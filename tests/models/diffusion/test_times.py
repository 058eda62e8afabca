"""Times: values measured on the published implementation, and the law they come from."""

import pytest
import torch

from models.diffusion.times import Times, shift_times

# t = 500 moved by the published code; num_frames // 17 * 5 is the true latent length here
PUBLISHED = [
    (240, 426, 1, 384.43),
    (240, 426, 5, 582.72),
    (240, 426, 15, 707.49),
    (240, 426, 30, 773.79),
    (240, 426, 60, 828.69),
    (240, 426, 120, 872.47),
    (720, 1280, 1, 652.17),
    (720, 1280, 15, 878.96),
    (720, 1280, 30, 911.27),
]


@pytest.mark.parametrize(("height", "width", "latent_frames", "expected"), PUBLISHED)
def test_the_transform_reproduces_the_published_values(height, width, latent_frames, expected):
    size = torch.tensor([[height, width]])
    moved = shift_times(torch.tensor([500.0]), size, latent_frames=latent_frames)
    assert moved.item() == pytest.approx(expected, abs=0.005)


@pytest.mark.parametrize("latent_frames", range(1, 6))
def test_short_clips_keep_times_between_clean_and_noise(latent_frames):
    times = torch.linspace(1, 999, 50)
    moved = shift_times(times, torch.tensor([[240, 426]]), latent_frames=latent_frames)
    assert (moved > 0).all()
    assert (moved < 1000).all()
    assert (moved.diff() > 0).all()


def test_each_sample_is_moved_by_its_own_size():
    sizes = torch.tensor([[512, 512], [1024, 1024]])
    moved = shift_times(torch.tensor([500.0, 500.0]), sizes, latent_frames=1)
    assert moved.tolist() == pytest.approx([500.0, 1000 * 2 / 3])


def test_logit_normal_times_are_a_sigmoid_of_a_normal_variable():
    times = Times(distribution="logit-normal", mean=0.5, std=0.7)
    drawn = times.draw(torch.ones(20_000, 2), latent_frames=1, generator=torch.Generator().manual_seed(0))
    logits = torch.logit(drawn / 1000)
    assert logits.mean().item() == pytest.approx(0.5, abs=0.02)
    assert logits.std().item() == pytest.approx(0.7, abs=0.02)


def test_uniform_times_fill_the_range_evenly():
    drawn = Times().draw(torch.ones(20_000, 2), latent_frames=1, generator=torch.Generator().manual_seed(0))
    counts = torch.histc(drawn, bins=10, min=0, max=1000)
    assert (counts / 2000 - 1).abs().max() < 0.08


def test_the_sampling_schedule_falls_from_noise_to_clean():
    times = Times(shift=True, base_resolution=32)
    rows = times.schedule(7, torch.tensor([[32, 32], [64, 48]]), latent_frames=4)
    assert rows.shape == (8, 2)
    assert (rows[0] == 1000).all()
    assert (rows[-1] == 0).all()
    assert (rows.diff(dim=0) < 0).all()


def test_a_sampler_without_steps_is_refused():
    with pytest.raises(ValueError, match="at least 1 step"):
        Times().schedule(0, torch.ones(1, 2), latent_frames=1)
