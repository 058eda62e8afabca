import pytest
import torch
from torch.nn import functional

from models.autoencoders.causal_layers import (
    CausalConvolution,
    CausalResidualBlock,
    DepthToSpace,
    FrameNorm,
    LatentNorm,
    LatentStyle,
)
from models.autoencoders.frame_cache import WHOLE, FrameCache

KERNEL = (3, 3, 3)


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def in_chunks(layer, x, lengths):
    cache, parts = FrameCache(), []
    for part in x.split(lengths, dim=2):
        parts.append(layer(part, cache))
        cache.next_chunk()
    return torch.cat(parts, dim=2)


@pytest.mark.parametrize("stride", [(1, 1, 1), (2, 1, 1), (2, 2, 2), (1, 2, 2)])
@pytest.mark.parametrize("frames", [1, 5, 17])
def test_convolution_is_the_dense_one_on_the_clip_with_two_zero_frames_in_front(stride, frames):
    conv = CausalConvolution(2, 3, KERNEL, stride=stride)
    x = torch.randn(2, 2, frames, 8, 8)
    padded = torch.cat([torch.zeros(2, 2, 2, 8, 8), x], dim=2)
    expected = functional.conv3d(padded, conv.weight, conv.bias, stride=stride, padding=(0, 1, 1))
    assert expected.shape[2] == 1 + (frames - 1) // stride[0]
    torch.testing.assert_close(conv(x), expected)


@pytest.mark.parametrize(
    ("stride", "lengths"), [((1, 1, 1), (1, 1, 3, 4)), ((2, 1, 1), (1, 2, 6)), ((2, 2, 2), (5, 4))]
)
def test_chunks_with_a_cache_make_what_the_whole_clip_makes(stride, lengths):
    x = torch.randn(1, 2, 9, 4, 4)
    conv = CausalConvolution(2, 3, KERNEL, stride=stride)
    torch.testing.assert_close(in_chunks(conv, x, lengths), conv(x))


@pytest.mark.parametrize("stride", [(2, 2, 2), (1, 2, 2), (2, 1, 1)])
def test_upsampled_chunks_make_what_the_whole_clip_makes(stride):
    x = torch.randn(1, 4, 6, 2, 2)
    layer = DepthToSpace(4, stride, KERNEL)
    torch.testing.assert_close(in_chunks(layer, x, (1, 1, 4)), layer(x))
    torch.testing.assert_close(in_chunks(layer, x, (3, 3)), layer(x))


def test_a_cache_keeps_copies_of_few_frames_and_not_the_chunk():
    conv, cache = CausalConvolution(2, 3, KERNEL), FrameCache()
    conv(torch.randn(1, 2, 9, 4, 4), cache)
    (kept,) = cache._seen.values()
    assert kept.untyped_storage().nbytes() == 2 * 2 * 4 * 4 * 4  # channels, frames, places, bytes


def test_depth_to_space_lays_channels_out_in_time_then_height_then_width():
    layer = DepthToSpace(3, (2, 2, 2), KERNEL)
    x = torch.randn(1, 3, 3, 2, 2)
    deep, made = layer.conv(x), layer(x)
    assert made.shape == (1, 3, 5, 4, 4)
    for channel in range(3):
        for frame in range(5):
            source, p = divmod(frame + 1, 2)  # the first of six frames is dropped
            for row in range(4):
                for column in range(4):
                    k = 8 * channel + 4 * p + 2 * (row % 2) + column % 2
                    assert made[0, channel, frame, row, column] == deep[0, k, source, row // 2, column // 2]


def test_a_frame_norm_has_the_statistics_of_each_frame():
    norm = FrameNorm(2, 4)
    torch.nn.init.normal_(norm.weight)
    x = torch.randn(2, 4, 3, 5, 5) * torch.arange(1, 4).view(1, 1, 3, 1, 1)
    expected = torch.stack(
        [functional.group_norm(x[:, :, i], 2, norm.weight, norm.bias, 1e-6) for i in range(3)], dim=2
    )
    torch.testing.assert_close(norm(x), expected)


def test_a_latent_norm_scales_by_deviations_and_shifts_by_means_of_each_latent_frame():
    norm = LatentNorm(2, 4, 3)
    latents, x = torch.randn(2, 3, 5, 4, 4), torch.randn(2, 4, 5, 8, 8)
    torch.testing.assert_close(norm(x, LatentStyle.of(latents)), norm.norm(x))  # a new one changes nothing
    torch.nn.init.normal_(norm.scale.weight)
    torch.nn.init.normal_(norm.shift.weight)
    made = norm(x, LatentStyle.of(latents))
    for frame in range(5):
        z = latents[:, :, frame].flatten(2)
        scale = norm.scale((z.var(dim=-1, correction=0) + 1e-5).sqrt())[..., None, None]
        shift = norm.shift(z.mean(dim=-1))[..., None, None]
        expected = functional.group_norm(x[:, :, frame], 2, eps=1e-6) * scale + shift
        torch.testing.assert_close(made[:, :, frame], expected)


def test_an_upsampled_style_gives_a_frame_the_style_of_its_latent():
    latents = torch.randn(1, 2, 3, 4, 4)
    style = LatentStyle.of(latents).upsampled(2, WHOLE)
    means = latents.mean(dim=(3, 4)).transpose(1, 2)
    torch.testing.assert_close(style.mean, means[:, [0, 1, 1, 2, 2]])


def test_activation_checkpointing_does_not_change_gradients():
    block = CausalResidualBlock(4, 8, groups=2, kernel=KERNEL)
    x = torch.randn(1, 4, 3, 4, 4)
    gradients = []
    for _ in range(2):
        block.zero_grad()
        block(x).square().sum().backward()
        gradients.append([parameter.grad.clone() for parameter in block.parameters()])
        block.enable_gradient_checkpointing()
    torch.testing.assert_close(gradients[0], gradients[1], rtol=0, atol=0)
