import pytest
import torch
from torch import nn

from models.autoencoders.adversarial import ADVERSARIAL_LOSSES, LeCam, adaptive_weight, r1_penalty

REAL, MADE = torch.tensor([2.0, 0.5, -1.0]), torch.tensor([-3.0, 0.25, 1.0])


def test_hinge_is_its_definition():
    loss = ADVERSARIAL_LOSSES["hinge"]
    real = sum(max(0.0, 1 - x) for x in REAL.tolist()) / 3
    made = sum(max(0.0, 1 + x) for x in MADE.tolist()) / 3
    assert loss.discriminator(REAL, MADE).item() == pytest.approx((real + made) / 2)
    assert loss.generator(MADE).item() == pytest.approx(-MADE.mean().item())


def test_non_saturating_is_cross_entropy_of_the_right_and_the_wished_labels():
    loss = ADVERSARIAL_LOSSES["non-saturating"]
    entropy = nn.functional.binary_cross_entropy_with_logits
    one, zero = torch.ones(3), torch.zeros(3)
    torch.testing.assert_close(loss.discriminator(REAL, MADE), entropy(REAL, one) + entropy(MADE, zero))
    torch.testing.assert_close(loss.generator(MADE), entropy(MADE, one))


def test_r1_of_a_linear_discriminator_is_the_squared_length_of_its_weight():
    weight = nn.Parameter(torch.randn(3 * 2 * 4 * 4))
    penalty = r1_penalty(lambda clips: clips.flatten(1) @ weight, torch.rand(5, 3, 2, 4, 4))
    torch.testing.assert_close(penalty, weight.square().sum())
    penalty.backward()
    torch.testing.assert_close(weight.grad, 2 * weight.detach())


def test_r1_of_a_quadratic_discriminator_averages_the_clips():
    weight = nn.Parameter(torch.tensor(3.0))
    clips = torch.rand(4, 1, 2, 2, 2)
    penalty = r1_penalty(lambda x: weight * x.square().flatten(1).sum(dim=1), clips)
    torch.testing.assert_close(penalty, (6 * clips).square().flatten(1).sum(dim=1).mean())
    assert not clips.requires_grad


def test_r1_works_where_gradients_are_off():
    weight = torch.ones(4)
    with torch.no_grad():
        assert r1_penalty(lambda x: x.flatten(1) @ weight, torch.zeros(2, 1, 1, 2, 2)).item() == 4


def test_lecam_draws_logits_to_the_running_means_of_the_other_side():
    regulariser = LeCam(decay=0.9)
    mean_real = mean_made = 0.0
    for step in range(4):
        real, made = REAL + step, MADE - step
        expected = (
            max(0.0, real.mean().item() - mean_made) ** 2 + max(0.0, mean_real - made.mean().item()) ** 2
        )
        assert regulariser(real, made).item() == pytest.approx(expected, rel=1e-5)
        regulariser.update(real, made)
        mean_real = 0.9 * mean_real + 0.1 * real.mean().item()
        mean_made = 0.9 * mean_made + 0.1 * made.mean().item()
        assert regulariser.mean_real.item() == pytest.approx(mean_real, rel=1e-5)
        assert regulariser.mean_made.item() == pytest.approx(mean_made, rel=1e-5)
    assert set(regulariser.state_dict()) == {"mean_real", "mean_made"}


def test_lecam_has_a_gradient_to_the_logits_by_hand():
    regulariser = LeCam(decay=0.5)
    regulariser.update(torch.tensor([4.0]), torch.tensor([-2.0]))  # means 2 and -1
    real, made = torch.tensor([1.0, 2.0], requires_grad=True), torch.tensor([0.0, 1.0], requires_grad=True)
    regulariser(real, made).backward()
    torch.testing.assert_close(real.grad, torch.full((2,), (1.5 + 1)))  # 2 (m + 1) / 2
    torch.testing.assert_close(made.grad, torch.full((2,), -(2 - 0.5)))


def test_the_adaptive_weight_makes_both_gradients_equally_long():
    torch.manual_seed(0)
    last = nn.Parameter(torch.randn(4))
    reconstruction, adversarial = (last * 3).sum(), (last**2).sum() * 0.01
    weight = adaptive_weight(reconstruction, adversarial, last)
    assert weight.item() == pytest.approx(6 / (0.02 * last.detach().norm().item() + 1e-4), rel=1e-5)
    assert not weight.requires_grad
    assert adaptive_weight(reconstruction, last.sum() * 0, last).item() == 1e4  # clamped
    (reconstruction + weight * adversarial).backward()  # the graph is still there
