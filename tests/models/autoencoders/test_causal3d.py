from dataclasses import replace

import pytest
import torch

from models.autoencoders import load_autoencoder
from models.autoencoders.causal3d import CausalAutoencoder
from models.autoencoders.config import CausalAutoencoderConfig
from models.autoencoders.presets import AUTOENCODERS, WALT

TINY = AUTOENCODERS["walt-causal-3d-tiny"].config
IDS = ("walt-causal-3d-tiny", "walt-image-tiny", "causal-5b-vae-tiny")
WIDE = CausalAutoencoderConfig(  # wide enough that convolutions round differently at different lengths
    filters=128,
    multipliers=(1, 1),
    blocks=1,
    spatial_downsample=(True,),
    temporal_downsample=(True,),
    latent_channels=4,
    norm_groups=32,
)


def codec_of(config):
    """Every weight is random, so that the latent reaches the adaptive norms."""
    torch.manual_seed(0)
    codec = CausalAutoencoder(config)
    for style in codec.decoder.styles:
        torch.nn.init.normal_(style.scale.weight, std=0.3)
        torch.nn.init.normal_(style.shift.weight, std=0.3)
    channels = config.latent_channels
    codec.set_statistics(torch.linspace(-1, 1, channels).tolist(), torch.linspace(0.5, 2, channels).tolist())
    return codec.eval()


@pytest.fixture(scope="module")
def codec():
    return codec_of(TINY)


@pytest.fixture
def clip():
    return torch.rand(2, 3, 17, 32, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1


def test_published_geometry_has_the_published_size():
    with torch.device("meta"):
        codec = CausalAutoencoder(WALT)
    counts = [sum(p.numel() for p in part.parameters()) for part in (codec.encoder, codec.decoder)]
    assert [round(count / 1e6, 1) for count in counts] == [144.9, 225.5]
    assert sum(counts) == pytest.approx(370.4e6, rel=0.005)


@pytest.mark.parametrize(("frames", "latents"), [(1, 1), (5, 2), (9, 3), (17, 5), (33, 9)])
@torch.no_grad()
def test_a_clip_has_one_latent_for_its_first_frame_and_one_for_every_four_more(codec, frames, latents):
    clip = torch.rand(1, 3, frames, 16, 24)
    encoded = codec.encode(clip)
    assert tuple(encoded.shape) == (1, 8, latents, 2, 3)
    assert codec.geometry.latent_shape(frames, 16, 24) == tuple(encoded.shape[1:])
    assert codec.geometry.pixel_frames(latents) == frames
    assert codec.decode(encoded, frames).shape == clip.shape


@pytest.mark.parametrize(
    "config", [TINY, WIDE, replace(TINY, gaussian=True)], ids=["tiny", "wide", "gaussian"]
)
@torch.no_grad()
def test_the_first_latent_is_that_of_the_first_frame_to_the_last_bit(config, clip):
    codec = codec_of(config)
    assert torch.equal(codec.encode(clip)[:, :, :1], codec.encode(clip[:, :, :1]))


@torch.no_grad()
def test_a_changed_frame_leaves_the_latents_of_earlier_groups_bit_equal(codec, clip):
    before = codec.encode(clip)
    for frame in range(17):
        changed = clip.clone()
        changed[:, :, frame] += 0.5
        moved = (codec.encode(changed) != before).flatten(3).any(dim=3).any(dim=1).any(dim=0)  # (t,)
        group = (frame + 3) // 4  # frame 0 is a group of its own, then 4 frames each
        assert not moved[:group].any()
        assert moved[group]


@torch.no_grad()
def test_a_changed_latent_leaves_the_frames_of_earlier_ones_bit_equal(codec, clip):
    latents = codec.encode(clip)
    before = codec.decode(latents, 17)
    for index, first in enumerate((0, 1, 5, 9, 13)):
        changed = latents.clone()
        changed[:, :, index] += 0.5
        moved = (codec.decode(changed, 17) != before).flatten(3).any(dim=3).any(dim=1).any(dim=0)
        assert not moved[:first].any()
        assert moved[first]


@pytest.mark.parametrize("lengths", [(1, 1, 1, 1, 1), (2, 3), (1, 4), (5,)], ids=str)
@pytest.mark.parametrize("config", [TINY, WIDE], ids=["tiny", "wide"])
@torch.no_grad()
def test_decoding_latents_as_they_arrive_makes_what_decoding_them_at_once_makes(config, lengths):
    codec = codec_of(config)
    latents = torch.randn(2, config.latent_channels, 5, 3, 4)
    whole = codec.decode(latents, codec.geometry.pixel_frames(5))
    streamed = list(codec.decode_stream(latents.split(lengths, dim=2)))
    stride = codec.geometry.temporal_stride
    assert [part.shape[2] for part in streamed] == [
        stride * length - (stride - 1) * (index == 0) for index, length in enumerate(lengths)
    ]
    torch.testing.assert_close(torch.cat(streamed, dim=2), whole, rtol=0, atol=1e-5)


@torch.no_grad()
def test_training_sees_the_same_latents_and_frames_as_inference(codec, clip):
    result = codec(clip)
    torch.testing.assert_close(result.posterior.mean, codec.posterior(clip).mean, rtol=0, atol=1e-5)
    torch.testing.assert_close(result.output, codec.decode(codec.encode(clip), 17), rtol=0, atol=1e-4)
    assert result.posterior.kl().tolist() == [0.0, 0.0]


def test_every_parameter_gets_a_gradient(clip):
    codec = CausalAutoencoder(replace(TINY, gaussian=True))
    result = codec(clip[:, :, :9], torch.Generator().manual_seed(0))
    (result.output.square().mean() + 1e-6 * result.posterior.kl().mean()).backward()
    without = [name for name, parameter in codec.named_parameters() if parameter.grad is None]
    assert without == []


@pytest.mark.parametrize("name", IDS)
@torch.no_grad()
def test_saving_and_loading_changes_nothing(name, tmp_path):
    codec = codec_of(AUTOENCODERS[name].config)
    codec.save_pretrained(tmp_path / "one")
    loaded = load_autoencoder(tmp_path / "one")
    assert loaded.contract() == codec.contract()
    assert loaded.geometry == codec.geometry
    assert not any(parameter.is_meta for parameter in loaded.parameters())
    frames = torch.rand(1, 3, 1, 32, 32)
    assert torch.equal(loaded.encode(frames), codec.encode(frames))
    loaded.save_pretrained(tmp_path / "two")
    for file in ("config.json", "model.safetensors"):
        assert (tmp_path / "two" / file).read_bytes() == (tmp_path / "one" / file).read_bytes()


def test_weights_of_another_configuration_are_refused_by_name(codec, tmp_path):
    codec.save_pretrained(tmp_path)
    wide = codec_of(replace(TINY, latent_channels=4))
    wide.save_pretrained(tmp_path / "other")
    (tmp_path / "config.json").write_text((tmp_path / "other" / "config.json").read_text())
    with pytest.raises(ValueError, match=r"another size: .*conv_out\.weight is \(8, 32, 1, 1, 1\)"):
        load_autoencoder(tmp_path)


@torch.no_grad()
def test_pixels_that_fill_no_latent_are_cut_off(codec, clip):
    larger = torch.nn.functional.pad(clip, (0, 7, 0, 3), value=0.5)
    assert torch.equal(codec.encode(larger), codec.encode(clip))


def test_an_image_autoencoder_takes_every_frame_for_itself():
    codec = codec_of(AUTOENCODERS["walt-image-tiny"].config)
    frames = torch.rand(1, 3, 3, 16, 16)
    with torch.no_grad():
        whole = codec.encode(frames)
        each = torch.cat([codec.encode(frames[:, :, i : i + 1]) for i in range(3)], dim=2)
    torch.testing.assert_close(whole, each, rtol=0, atol=1e-5)


@pytest.mark.parametrize("frames", [2, 16, 18])
def test_lengths_it_cannot_take_are_refused_with_the_nearest_two(codec, frames):
    below = {2: 1, 16: 13, 18: 17}[frames]
    expected = f"time: .* 1 \\+ 4k frames, not of {frames}; use {below} or {below + 4}"
    with pytest.raises(ValueError, match=expected):
        codec.encode(torch.zeros(1, 3, frames, 16, 16))
    with pytest.raises(ValueError, match=expected):
        codec.decode(torch.zeros(1, 8, 5, 2, 2), frames)
    with pytest.raises(ValueError, match=expected):
        codec(torch.zeros(1, 3, frames, 16, 16))


def test_configurations_that_fit_nothing_are_refused():
    with pytest.raises(ValueError, match="spatial_downsample has 2 entries for 4 levels"):
        replace(WALT, spatial_downsample=(True, True))
    with pytest.raises(ValueError, match="norm groups"):
        replace(WALT, norm_groups=24)
    with pytest.raises(ValueError, match="time_kernel 1"):
        replace(WALT, time_kernel=1)
