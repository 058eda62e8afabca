"""Patches of latents, with those of a stage before."""

import pytest
import torch
from torch.nn import functional

from models.transformers.conditions import Given
from models.transformers.patches import PatchesWithLowResolution, build_patches, unpatchify


def test_patches_are_a_convolution_whose_stride_is_its_size():
    patches = build_patches(3, 0, 8, (1, 2, 2))
    latents = torch.randn(2, 3, 2, 4, 6)
    weight = patches.projection.weight.view(8, 3, 1, 2, 2)
    expected = functional.conv3d(latents, weight, patches.projection.bias, stride=(1, 2, 2))
    torch.testing.assert_close(patches(latents, Given()), expected.permute(0, 2, 3, 4, 1))


@pytest.mark.parametrize("patch", [(1, 1, 1), (1, 4, 4)], ids=str)
def test_low_resolution_latents_are_enlarged_frame_by_frame_and_come_after_the_others(
    patch: tuple[int, int, int],
):
    patches = build_patches(5, 2, 8, patch)
    latents, low = torch.randn(2, 5, 3, 8, 12), torch.randn(2, 2, 3, 4, 6)
    frames = [
        functional.pixel_shuffle(
            functional.conv2d(frame, patches.enlarge.weight, patches.enlarge.bias, padding=1), 2
        )
        for frame in low.unbind(2)
    ]
    joined = torch.cat((latents, torch.stack(frames, dim=2)), dim=1)
    plain = build_patches(7, 0, 8, patch)
    plain.projection = patches.projection
    torch.testing.assert_close(patches(latents, Given(low_resolution=low)), plain(joined, Given()))


def test_low_resolution_latents_of_another_size_are_refused_with_both():
    patches = PatchesWithLowResolution(5, 8, (1, 1, 1), 2)
    with pytest.raises(ValueError, match="low_resolution is 3 x 4 x 5 and the latents 3 x 8 x 12"):
        patches(torch.randn(1, 5, 3, 8, 12), Given(low_resolution=torch.randn(1, 2, 3, 4, 5)))


def test_unpatchify_undoes_an_identity_projection():
    patches = build_patches(3, 0, 12, (1, 2, 2))
    with torch.no_grad():
        patches.projection.weight.copy_(torch.eye(12).view(3, 4, 12).transpose(0, 1).reshape(12, 12))
        patches.projection.bias.zero_()
    latents = torch.randn(2, 3, 2, 5, 6)
    assert torch.equal(unpatchify(patches(latents, Given()), (1, 2, 2), latents.shape[2:]), latents)
