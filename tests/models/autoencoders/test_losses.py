import pytest
import torch
from torch.distributions import Normal, kl_divergence

from models.autoencoders.losses import kl_loss, psnr, reconstruction_loss, saturation_of
from models.autoencoders.posterior import Posterior


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def test_kl_is_that_of_two_gaussians():
    mean, logvar = torch.randn(3, 2, 4), torch.randn(3, 2, 4)
    expected = kl_divergence(Normal(mean, (logvar / 2).exp()), Normal(0.0, 1.0)).sum(dim=(1, 2))
    kl = Posterior(mean, logvar).kl()
    torch.testing.assert_close(kl, expected)
    torch.testing.assert_close(kl_loss(kl, 10), expected.mean() / 10)


def test_a_saturated_pixel_weighs_more_and_a_grey_one_as_it_is():
    red = torch.tensor([1.0, -1.0, -1.0]).view(1, 3, 1, 1, 1)
    grey = torch.zeros(1, 3, 1, 1, 1)
    assert saturation_of(red).item() == 1
    for target, weight in ((red, 3.0), (grey, 1.0)):
        loss = reconstruction_loss(target + 0.1, target, l1=2.0, mse=5.0, saturation=2.0)
        assert loss.item() == pytest.approx(weight * (2 * 0.1 + 5 * 0.01), rel=1e-5)


def test_psnr_of_known_noise():
    target = torch.zeros(2, 3, 4, 32, 32)
    noise = 0.1 * torch.randn_like(target)  # 0.05 of the range 2
    torch.testing.assert_close(psnr(noise, target), torch.full((2,), 26.02), atol=0.2, rtol=0)
    assert psnr(torch.full((1, 3, 1, 1, 1), 5.0), torch.ones(1, 3, 1, 1, 1)).item() > 90  # clamped
