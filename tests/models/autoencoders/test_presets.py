import pytest
import torch

from models.autoencoders.presets import AUTOENCODERS, autoencoder

PUBLISHED = {  # id: latent of a training sample, parameters or None
    "sdxl-2d": ((4, 1, 32, 32), 83_653_863),  # as diffusers counts the public model
    "opensora-vae-1.2": ((4, 5, 32, 32), 83_653_863 + 309_687_144),
    "walt-causal-3d": ((8, 5, 16, 16), 370_400_000),
    "walt-image": ((8, 1, 32, 32), None),
    "hdvila-2d": ((4, 1, 64, 64), None),
    "causal-5b-vae": ((48, 5, 16, 16), None),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_geometry_and_size(name):
    latent, parameters = PUBLISHED[name]
    preset = AUTOENCODERS[name]
    assert preset.geometry().latent_shape(*preset.video) == latent
    with torch.device("meta"):
        codec = autoencoder(name)
    assert all(parameter.is_meta for parameter in codec.parameters())
    if parameters:
        count = sum(parameter.numel() for parameter in codec.parameters())
        assert count == pytest.approx(parameters, rel=0.005 if name == "walt-causal-3d" else 0)


def test_every_preset_has_a_tiny_twin_of_the_same_geometry():
    assert {name for name in AUTOENCODERS if not name.endswith("-tiny")} == set(PUBLISHED)
    for name in PUBLISHED:
        assert AUTOENCODERS[f"{name}-tiny"].geometry() == AUTOENCODERS[name].geometry()


@pytest.mark.parametrize("name", [f"{name}-tiny" for name in PUBLISHED])
@torch.no_grad()
def test_a_tiny_twin_encodes_and_decodes(name):
    torch.manual_seed(0)
    preset, codec = AUTOENCODERS[name], autoencoder(name).eval()
    frames = torch.rand(1, 3, *preset.video) * 2 - 1
    latents = codec.encode(frames)
    assert tuple(latents.shape[1:]) == codec.geometry.latent_shape(*preset.video)
    assert codec.decode(latents, preset.video[0]).shape == frames.shape
    assert sum(parameter.numel() for parameter in codec.parameters()) < 2e6


def test_unknown_names_are_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="no autoencoder preset `vae`; presets: sdxl-2d, opensora-vae"):
        autoencoder("vae")
