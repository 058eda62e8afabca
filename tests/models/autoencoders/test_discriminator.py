import math

import pytest
import torch
from torch.nn import functional

from models.autoencoders.adversarial import r1_penalty
from models.autoencoders.discriminator import Discriminator3d, DiscriminatorConfig, halve

SMALL = {"filters": 4, "multipliers": (2, 4, 4, 4, 4)}


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.mark.parametrize("taps", [(1, 1), (1, 2, 1), (1, 3, 3, 1)], ids=str)
@pytest.mark.parametrize("frames", [1, 16, 17])
def test_clips_of_16_and_17_frames_get_finite_logits_and_penalties(frames, taps):
    config = DiscriminatorConfig(frames=frames, height=32, width=48, taps=taps, **SMALL)
    model = Discriminator3d(config)
    clips = torch.rand(2, 3, frames, 32, 48) * 2 - 1
    logits = model(clips)
    assert logits.shape == (2,)
    (functional.softplus(logits).mean() + r1_penalty(model, clips)).backward()
    assert logits.isfinite().all()
    assert all(
        parameter.grad.isfinite().all() for parameter in model.parameters() if parameter.grad is not None
    )
    assert {name for name, parameter in model.named_parameters() if parameter.grad is None} == set()


def test_every_axis_is_halved_until_it_is_one():
    assert DiscriminatorConfig(frames=17, height=128, width=96).grid == (1, 4, 3)
    x = torch.randn(1, 2, 17, 12, 1)
    sizes = []
    for _ in range(5):
        x = halve(x, (1, 1))
        sizes.append(tuple(x.shape[2:]))
    assert sizes == [(9, 6, 1), (5, 3, 1), (3, 2, 1), (2, 1, 1), (1, 1, 1)]


def test_two_taps_are_average_pooling_and_three_a_blur():
    x = torch.randn(2, 3, 5, 6, 7)
    torch.testing.assert_close(halve(x, (1, 1)), functional.avg_pool3d(x, 2, ceil_mode=True))
    kernel = torch.einsum("i,j,k->ijk", *[torch.tensor([1.0, 2.0, 1.0])] * 3).expand(3, 1, 3, 3, 3)
    sums = functional.conv3d(x, kernel, stride=2, padding=1, groups=3)
    inside = functional.conv3d(torch.ones_like(x), kernel, stride=2, padding=1, groups=3)
    torch.testing.assert_close(halve(x, (1, 2, 1)), sums / inside)


def test_a_block_keeps_the_variance_of_its_two_branches():
    model = Discriminator3d(DiscriminatorConfig(frames=4, height=8, width=8, filters=4, multipliers=(2,)))
    block, x = model.blocks[0], torch.randn(1, 4, 4, 8, 8)
    lrelu = torch.nn.LeakyReLU(0.2)
    hidden = lrelu(block.conv2(functional.avg_pool3d(lrelu(block.conv1(x)), 2)))
    expected = (block.shortcut(functional.avg_pool3d(x, 2)) + hidden) / math.sqrt(2)
    torch.testing.assert_close(block(x), expected)


def test_the_published_geometry_builds():
    with torch.device("meta"):
        model = Discriminator3d(DiscriminatorConfig(frames=17, height=128, width=128))
        assert model(torch.zeros(1, 3, 17, 128, 128)).shape == (1,)
    assert model.dense.in_features == 512 * 1 * 4 * 4


def test_clips_of_another_size_are_refused_by_axis():
    model = Discriminator3d(DiscriminatorConfig(frames=5, height=16, width=16, filters=4, multipliers=(2,)))
    with pytest.raises(ValueError, match="frames 5, not 9"):
        model(torch.zeros(1, 3, 9, 16, 16))
    with pytest.raises(ValueError, match="width 16, not 24"):
        model(torch.zeros(1, 3, 5, 16, 24))
