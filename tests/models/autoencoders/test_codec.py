import pytest
import torch
from diffusers import AutoencoderKL

from models.autoencoders import image as image_module
from models.autoencoders import load_autoencoder
from models.autoencoders.config import ImageAutoencoderConfig
from models.autoencoders.image import ImageAutoencoder
from tests.tiny_parts import tiny_codec

FOLDED = ImageAutoencoderConfig(
    channels=(8, 8), layers_per_level=1, latent_channels=4, norm_groups=4, patch=2
)


@pytest.fixture
def video():
    return tiny_codec()


@pytest.fixture
def folded():
    torch.manual_seed(0)
    codec = ImageAutoencoder.build(FOLDED).eval()
    codec.set_statistics([0.5, 0.0, -1.0, 0.0], [2.0, 1.0, 0.5, 1.0])
    return codec


@pytest.fixture
def frames():
    return torch.rand(2, 3, 7, 16, 16, generator=torch.Generator().manual_seed(3)) * 2 - 1


@pytest.fixture(params=["video", "folded"])
def codec(request):
    return request.getfixturevalue(request.param)


@torch.no_grad()
def test_shapes_are_those_of_the_geometry(codec, frames):
    latents = codec.encode(frames)
    assert tuple(latents.shape[1:]) == codec.geometry.latent_shape(7, 16, 16)
    assert codec.decode(latents, 7).shape == frames.shape


@torch.no_grad()
def test_latents_are_normalised_per_channel_and_decoding_undoes_it(codec, frames):
    raw = codec.posterior(frames).mean
    latents = codec.encode(frames)
    for channel, (shift, scale) in enumerate(zip(codec.shift, codec.scale, strict=True)):
        torch.testing.assert_close(latents[:, channel] * scale + shift, raw[:, channel])
    torch.testing.assert_close(codec.decode(latents, 7), codec.decode_raw(raw, 7))


@torch.no_grad()
def test_a_generator_draws_from_the_posterior_and_none_gives_its_mean(codec, frames):
    assert torch.equal(codec.encode(frames), codec.encode(frames))
    draws = [codec.encode(frames, generator=torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    deviation = (draws[0] - codec.encode(frames)).std() / (1 / codec.scale).mean()
    assert 0.02 < deviation < 0.1  # a new model starts with log-variance -6: 0.05


@torch.no_grad()
def test_saving_and_loading_changes_nothing(codec, frames, tmp_path):
    codec.save_pretrained(tmp_path / "one")
    loaded = load_autoencoder(tmp_path / "one")
    assert loaded.contract() == codec.contract()
    torch.testing.assert_close(loaded.encode(frames), codec.encode(frames), rtol=0, atol=0)
    loaded.save_pretrained(tmp_path / "two")
    for file in (path for path in (tmp_path / "one").rglob("*") if path.is_file()):
        content = (tmp_path / "two" / file.relative_to(tmp_path / "one")).read_bytes()
        assert content == file.read_bytes()
        assert str(tmp_path).encode() not in content


def test_contract_follows_weights_and_statistics(codec):
    before = codec.contract()
    codec.set_statistics([0.0] * 4, [3.0] * 4)
    assert codec.contract()["scale"] == [3.0] * 4
    with torch.no_grad():
        next(codec.parameters()).view(-1)[0] += 1e-3
    assert codec.contract()["weights_sha256"] != before["weights_sha256"]


@torch.no_grad()
def test_first_latent_of_a_full_chunk_knows_only_the_first_frame_apart_from_norms(video, frames):
    clip = frames[:, :, :5]  # chunk of 5 at stride 2: one zero latent in front
    changed = clip.clone()
    changed[:, :, 1:] += 0.05
    moved = (video.encode(changed) - video.encode(clip)).abs().mean(dim=(0, 1, 3, 4))
    assert moved[0] < 0.2 * moved[1:].min()


@torch.no_grad()
def test_frames_are_encoded_as_diffusers_encodes_images(frames):
    torch.manual_seed(0)
    config = ImageAutoencoderConfig(channels=(8, 8), layers_per_level=1, latent_channels=4, norm_groups=4)
    codec = ImageAutoencoder.build(config).eval()
    expected = [codec.spatial.encode(frames[:, :, i]).latent_dist.mode() for i in range(7)]
    torch.testing.assert_close(codec.encode(frames), torch.stack(expected, dim=2))
    decoded = [codec.spatial.decode(latents).sample for latents in expected]
    torch.testing.assert_close(codec.decode(torch.stack(expected, dim=2), 7), torch.stack(decoded, dim=2))


@torch.no_grad()
def test_long_clips_go_through_in_parts_with_the_same_result(folded, frames, monkeypatch):
    whole = folded.decode(folded.encode(frames), 7)
    monkeypatch.setattr(image_module, "PIXELS_PER_PASS", 3 * 16 * 16)
    torch.testing.assert_close(folded.decode(folded.encode(frames), 7), whole)


def test_a_published_folder_keeps_its_scaling_factor(tmp_path):
    published = AutoencoderKL(
        block_out_channels=(8,), norm_num_groups=4, latent_channels=4, scaling_factor=0.25, sample_size=8
    )
    published.save_pretrained(tmp_path / "vae")
    assert ImageAutoencoder.from_diffusers(tmp_path / "vae").scale.tolist() == [4.0] * 4
    codec = ImageAutoencoder.from_diffusers(tmp_path / "vae", scaling_factor=0.5)
    assert codec.scale.tolist() == [2.0] * 4
    with pytest.raises(ValueError, match="give a diffusers folder"):
        ImageAutoencoder.from_diffusers(tmp_path)


def test_wrong_shapes_and_folders_are_refused(video, tmp_path):
    with pytest.raises(ValueError, match="frames must be"):
        video.encode(torch.zeros(3, 7, 16, 16))
    with pytest.raises(ValueError, match="latents of 7 frames"):
        video.decode(torch.zeros(1, 4, 5, 4, 4), 7)
    with pytest.raises(ValueError, match="never changes"):
        video.set_statistics([0.0] * 4, [1.0, 1.0, 0.0, 1.0])
    with pytest.raises(ValueError, match="no autoencoder folder"):
        load_autoencoder(tmp_path)
    (tmp_path / "config.json").write_text('{"_class_name": "Other"}')
    with pytest.raises(ValueError, match="holds a Other"):
        load_autoencoder(tmp_path)
