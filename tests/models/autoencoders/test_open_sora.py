from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from models.autoencoders.config import ImageAutoencoderConfig
from models.autoencoders.open_sora import load_open_sora_vae
from tests.tiny_parts import tiny_codec

IMAGE = ImageAutoencoderConfig(channels=(8, 8, 8), layers_per_level=1, latent_channels=4, norm_groups=4)


@pytest.fixture
def codec():
    codec = tiny_codec()
    codec.image.set_statistics([0.0] * 4, [1 / 0.18215] * 4)
    return codec


@pytest.fixture
def checkpoint(codec):
    """The codec in the layout that Open-Sora 1.2 publishes."""
    spatial = {
        f"spatial_vae.module.{name}": value for name, value in codec.image.spatial.state_dict().items()
    }
    temporal = {f"temporal_vae.{name}": value for name, value in codec.temporal.state_dict().items()}
    statistics = {name: getattr(codec, name).view(1, 4, 1, 1, 1) for name in ("shift", "scale")}
    return {name: value.clone() for name, value in (spatial | temporal | statistics).items()}


@torch.no_grad()
def test_a_published_checkpoint_gives_the_autoencoder_it_was_made_of(codec, checkpoint, tmp_path):
    save_file(checkpoint, tmp_path / "model.safetensors")
    loaded = load_open_sora_vae(tmp_path, image=IMAGE, temporal=codec.temporal.config).eval()
    frames = torch.rand(1, 3, 5, 16, 16) * 2 - 1
    torch.testing.assert_close(loaded.encode(frames), codec.encode(frames))
    assert loaded.contract() == codec.contract()


@pytest.mark.parametrize("damage", ["missing", "unknown", "geometry", "no statistics"])
def test_a_checkpoint_that_does_not_fit_exactly_is_refused(codec, checkpoint, tmp_path, damage):
    temporal = codec.temporal.config
    if damage == "missing":
        del checkpoint["temporal_vae.encoder.norm1.weight"]
    elif damage == "unknown":
        checkpoint["discriminator.weight"] = torch.zeros(1)
    elif damage == "geometry":
        temporal = replace(temporal, filters=16)
    else:
        del checkpoint["shift"]
    save_file(checkpoint, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"another geometry|no Open-Sora"):
        load_open_sora_vae(tmp_path, image=IMAGE, temporal=temporal)


def test_a_folder_without_a_checkpoint_is_refused(tmp_path):
    with pytest.raises(ValueError, match="holds none of"):
        load_open_sora_vae(tmp_path)
