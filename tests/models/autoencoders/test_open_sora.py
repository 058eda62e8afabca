from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from models.autoencoders.config import ImageAutoencoderConfig, VideoAutoencoderConfig
from models.autoencoders.convert import ours_to_open_sora
from models.autoencoders.open_sora import load_open_sora_vae
from tests.tiny_parts import tiny_codec

IMAGE = ImageAutoencoderConfig(channels=(8, 8, 8), layers_per_level=1, latent_channels=4, norm_groups=4)


@pytest.fixture
def codec():
    codec = tiny_codec()
    codec.image.set_statistics([0.0] * 4, [1 / 0.18215] * 4)
    return codec


@pytest.fixture
def config(codec):
    return VideoAutoencoderConfig(image=IMAGE, temporal=codec.temporal.config)


@pytest.fixture
def checkpoint(codec, config):
    """The codec in the layout that Open-Sora 1.2 publishes."""
    state = ours_to_open_sora(codec.state_dict(), config)
    return {name: value.clone().contiguous() for name, value in state.items()}


@pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin"])
@torch.no_grad()
def test_a_published_checkpoint_gives_the_autoencoder_it_was_made_of(
    codec, config, checkpoint, tmp_path, file
):
    (save_file if file.endswith("safetensors") else torch.save)(checkpoint, tmp_path / file)
    loaded = load_open_sora_vae(tmp_path, config).eval()
    frames = torch.rand(1, 3, 5, 16, 16) * 2 - 1
    assert torch.equal(loaded.encode(frames), codec.encode(frames))
    assert loaded.contract() == codec.contract()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("missing", "1 tensors are missing"),
        ("unknown", "discriminator.weight"),
        ("geometry", "another size"),
        ("no statistics", "1 tensors are missing.*shift"),
    ],
)
def test_a_checkpoint_that_does_not_fit_exactly_is_refused(config, checkpoint, tmp_path, damage, message):
    if damage == "missing":
        del checkpoint["temporal_vae.encoder.norm1.weight"]
    elif damage == "unknown":
        checkpoint["discriminator.weight"] = torch.zeros(1)
    elif damage == "geometry":
        config = replace(config, temporal=replace(config.temporal, filters=16))
    else:
        del checkpoint["shift"]
    save_file(checkpoint, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=message):
        load_open_sora_vae(tmp_path, config)


def test_files_that_hold_no_tensors_are_refused(checkpoint, tmp_path):
    with pytest.raises(ValueError, match="holds no weights"):
        load_open_sora_vae(tmp_path)
    with pytest.raises(ValueError, match=r"vae\.pt holds no weights"):
        load_open_sora_vae(tmp_path / "vae.pt")
    save_file(checkpoint, tmp_path / "cut.safetensors")
    whole = (tmp_path / "cut.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"cut\.safetensors .* is no whole safetensors file"):
        load_open_sora_vae(tmp_path / "cut.safetensors")
    torch.save({"model": torch.nn.Linear(1, 1)}, tmp_path / "pickle.pt")
    with pytest.raises(ValueError, match=r"pickle\.pt holds more than tensors"):
        load_open_sora_vae(tmp_path / "pickle.pt")
    torch.save({"epoch": 3}, tmp_path / "more.pt")
    with pytest.raises(ValueError, match="something besides tensors"):
        load_open_sora_vae(tmp_path / "more.pt")
