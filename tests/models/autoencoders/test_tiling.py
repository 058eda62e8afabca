"""Tiled against whole, on codecs that have been trained for a moment: norms of a random network exaggerate."""

import pytest
import torch
from torch.nn.functional import interpolate

from models.autoencoders import build_autoencoder
from models.autoencoders.config import (
    CausalAutoencoderConfig,
    ImageAutoencoderConfig,
    TemporalAutoencoderConfig,
    VideoAutoencoderConfig,
)
from models.autoencoders.losses import psnr
from models.autoencoders.tiling import Tiling

IMAGE = ImageAutoencoderConfig(channels=(16, 32, 32), layers_per_level=1, latent_channels=4, norm_groups=4)
CODECS = {
    "image": IMAGE,
    "open-sora": VideoAutoencoderConfig(
        image=IMAGE,
        temporal=TemporalAutoencoderConfig(
            filters=16,
            multipliers=(1, 1),
            blocks=1,
            temporal_downsample=(True,),
            norm_groups=4,
            chunk_frames=5,
        ),
    ),
    "causal": CausalAutoencoderConfig(
        filters=8,
        multipliers=(1, 2, 2),
        blocks=1,
        spatial_downsample=(True, True),
        temporal_downsample=(False, True),
        latent_channels=4,
        norm_groups=4,
    ),
}


def smooth(seed, clips, frames, side):
    """Clips of slowly changing colours, as natural video has them at this size."""
    corners = torch.rand(clips, 3, 2, side // 8, side // 8, generator=torch.Generator().manual_seed(seed))
    return interpolate(corners * 2 - 1, size=(frames, side, side), mode="trilinear")


@pytest.fixture(scope="module", params=CODECS)
def codec(request):
    torch.manual_seed(0)
    codec = build_autoencoder(CODECS[request.param])
    optimizer = torch.optim.AdamW(codec.parameters(), 6e-3)
    for step in range(40):
        clip = smooth(step, 4, 5, 32)
        loss = (codec(clip, torch.Generator().manual_seed(step)).output - clip).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return codec.eval()


@pytest.fixture(scope="module")
def clip():
    return smooth(99, 2, 7, 64)


@torch.no_grad()
def test_tiled_is_close_to_whole(codec, clip):
    """Tiles of 10 x 10 latents of 16 x 16, overlap 4.

    Measured, image / Open-Sora / causal: frames 35.7 / 30.1 / 33.7 dB, where the codecs themselves reach 14 to 15 dB;
    latents differ by 0.22 / 0.28 / 0.21 of their deviation.
    """
    tiling = Tiling(height=10, width=10, overlap=4)
    latents = codec.encode(clip)
    whole, tiled = (codec.decode(latents, 7, tiling=way) for way in (None, tiling))
    assert psnr(tiled, whole.clamp(-1, 1)).mean() > 28
    torch.testing.assert_close(psnr(tiled, clip), psnr(whole, clip), rtol=0, atol=0.3)
    assert (codec.encode(clip, tiling=tiling) - latents).std() < 0.35 * latents.std()


@torch.no_grad()
def test_blending_hides_the_seams(codec, clip):
    """Measured: 0.110 to 0.011, 0.082 to 0.020, 0.050 to 0.008 of the pixel range -1..1."""
    latents = codec.encode(clip)
    whole = codec.decode(latents, 7)

    def seam(tiling):
        """The largest jump of the error between two columns."""
        error = codec.decode(latents, 7, tiling=tiling) - whole
        return error.diff(dim=-1).abs().mean(dim=(0, 1, 2, 3)).max()

    hard, blended = seam(Tiling(width=8)), seam(Tiling(width=10, overlap=4))
    assert blended < 0.4 * hard


@pytest.mark.parametrize("frames", [1, 3])
@torch.no_grad()
def test_parts_in_time_and_single_samples_change_rounding_only(codec, clip, frames):
    tiling = Tiling(frames=frames, samples=1)
    latents = codec.encode(clip)
    torch.testing.assert_close(codec.encode(clip, tiling=tiling), latents, rtol=0, atol=1e-4)
    decoded = codec.decode(latents, 7, tiling=tiling)
    torch.testing.assert_close(decoded, codec.decode(latents, 7), rtol=0, atol=1e-4)


def largest_activation(codec, run):
    """Values in the largest tensor that a layer returns."""
    sizes = []
    hooks = [
        module.register_forward_hook(
            lambda _, __, out: sizes.append(out.numel()) if torch.is_tensor(out) else None
        )
        for module in codec.modules()
    ]
    run()
    for hook in hooks:
        hook.remove()
    return max(sizes)


@torch.no_grad()
def test_the_largest_activation_shrinks_with_tiles_parts_and_samples(codec, clip):
    clip = clip[..., :48, :48]
    latents = codec.encode(clip)
    largest = {
        name: [
            largest_activation(codec, lambda tiling=tiling: codec.encode(clip, tiling=tiling)),
            largest_activation(codec, lambda tiling=tiling: codec.decode(latents, 7, tiling=tiling)),
        ]
        for name, tiling in {
            "whole": None,
            "tiles": Tiling(height=6, width=6, overlap=2),
            "samples": Tiling(samples=1),
            "all": Tiling(height=6, width=6, overlap=2, samples=1, frames=2),
        }.items()
    }
    for whole, tiles, samples, everything in zip(*largest.values(), strict=True):
        assert tiles <= whole / 4 * 1.001
        assert samples <= whole / 2
        assert everything <= whole / 10


def test_tiles_of_a_network_without_context_are_the_whole_exactly():
    x = torch.randn(3, 2, 4, 13, 17)

    def upsample(tile):
        return tile.repeat_interleave(2, -1).repeat_interleave(2, -2) * 3

    for tiling in (
        Tiling(height=4, width=5, overlap=2, samples=2),
        Tiling(height=5, overlap=1),
        Tiling(width=16),
        Tiling(height=99, width=99),
    ):
        tiled = tiling.run(x, upsample, scale_in=1, scale_out=2)
        torch.testing.assert_close(tiled, upsample(x))


def test_neighbours_are_blended_linearly():
    def constant(tile):  # each tile has a value of its own
        constant.calls += 1
        return torch.full_like(tile, float(constant.calls))

    constant.calls = 0
    tiled = Tiling(width=6, overlap=3).run(torch.zeros(1, 1, 1, 1, 9), constant, scale_in=1, scale_out=1)
    expected = [1, 1, 1, 1 + 1 / 6, 1.5, 2 - 1 / 6, 2, 2, 2]
    torch.testing.assert_close(tiled.flatten(), torch.tensor(expected))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"height": 0}, "height must be at least 1, not 0"),
        ({"frames": -1}, "frames must be at least 1"),
        ({"width": 8, "overlap": 5}, "overlap 5 must be between 0 and half of width 8; use at most 4"),
    ],
)
def test_tilings_that_cut_nothing_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Tiling(**options)
