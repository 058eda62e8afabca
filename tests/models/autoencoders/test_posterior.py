import pytest
import torch

from models.autoencoders.posterior import Point, Posterior


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def test_normalising_a_posterior_normalises_its_samples():
    posterior = Posterior(torch.randn(2, 3, 4), torch.randn(2, 3, 4))
    shift, scale = torch.randn(1, 3, 1), torch.rand(1, 3, 1) + 0.5
    one, two = (torch.Generator().manual_seed(1) for _ in range(2))
    samples = posterior.normalised(shift, scale).latents(one)
    torch.testing.assert_close(samples, (posterior.latents(two) - shift) / scale)


def test_log_variance_is_clamped_to_the_published_range():
    posterior = Posterior.from_moments(torch.tensor([[0.0, 0.0, -99.0, 99.0]]))
    assert posterior.logvar.tolist() == [[-30.0, 20.0]]


def test_extreme_log_variances_stay_finite():
    moments = torch.tensor([[0.0, 0.0, -1e9, 1e9]])
    posterior = Posterior.from_moments(moments)
    assert posterior.latents(torch.Generator().manual_seed(0)).isfinite().all()
    assert posterior.kl().isfinite().all()


def test_a_point_is_its_own_sample_and_costs_nothing():
    mean, shift, scale = torch.randn(2, 3, 4), torch.randn(1, 3, 1), torch.rand(1, 3, 1) + 0.5
    point = Point(mean)
    assert point.latents(torch.Generator()) is mean
    assert point.latents(None) is mean
    assert point.kl().tolist() == [0.0, 0.0]
    torch.testing.assert_close(point.normalised(shift, scale).mean, (mean - shift) / scale)
