"""The published video autoencoder of Open-Sora 1.2, read from its own checkpoint.

Its temporal parameters have our names; its 2D part is a diffusers `AutoencoderKL` of the Stable Diffusion
geometry.
"""

from pathlib import Path

import torch
from torch import Tensor

from models.autoencoders.config import ImageAutoencoderConfig, TemporalAutoencoderConfig
from models.autoencoders.image import ImageAutoencoder
from models.autoencoders.temporal import TemporalAutoencoder
from models.autoencoders.video import VideoAutoencoder

SPATIAL_PREFIX, TEMPORAL_PREFIX = "spatial_vae.module.", "temporal_vae."
SCALING_FACTOR = 0.18215  # of the 2D latents that the temporal model was trained on
IMAGE = ImageAutoencoderConfig(
    channels=(128, 256, 512, 512), layers_per_level=2, latent_channels=4, norm_groups=32
)
TEMPORAL = TemporalAutoencoderConfig(
    filters=128,
    multipliers=(1, 2, 2, 4),
    blocks=4,
    temporal_downsample=(False, True, True),
    norm_groups=32,
    chunk_frames=17,
)


def load_open_sora_vae(
    path: Path, *, image: ImageAutoencoderConfig = IMAGE, temporal: TemporalAutoencoderConfig = TEMPORAL
) -> VideoAutoencoder:
    """The autoencoder in a checkpoint file (.safetensors, .bin, .pt), or in a folder with one.

    Raises `ValueError` where there is none, or where its tensors are not exactly those of the geometry.
    """
    return convert_open_sora_vae(_read(path), image=image, temporal=temporal)


def convert_open_sora_vae(
    state: dict[str, Tensor], *, image: ImageAutoencoderConfig, temporal: TemporalAutoencoderConfig
) -> VideoAutoencoder:
    """The autoencoder with these weights. `shift` and `scale` (1, C, 1, 1, 1) become its statistics."""
    codec = VideoAutoencoder(ImageAutoencoder.build(image), TemporalAutoencoder(temporal))
    codec.image.set_statistics([0.0] * image.latent_channels, [1 / SCALING_FACTOR] * image.latent_channels)
    rest = dict(state)
    statistics = {name: rest.pop(name).flatten().tolist() for name in ("shift", "scale") if name in rest}
    _load(codec.image.spatial, _take(rest, SPATIAL_PREFIX), "2D autoencoder")
    _load(codec.temporal, _take(rest, TEMPORAL_PREFIX), "temporal autoencoder")
    if rest or len(statistics) != 2:
        raise ValueError(
            "this is no Open-Sora 1.2 autoencoder: it needs `shift` and `scale`, and"
            f" {len(rest)} tensors are unknown {sorted(rest)[:3]}"
        )
    codec.set_statistics(**statistics)
    return codec


def _take(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Remove the tensors under a prefix and return them without it."""
    names = [name for name in state if name.startswith(prefix)]
    return {name.removeprefix(prefix): state.pop(name) for name in names}


def _load(module: torch.nn.Module, state: dict[str, Tensor], what: str) -> None:
    expected = module.state_dict()
    missing, unknown = expected.keys() - state.keys(), state.keys() - expected.keys()
    wrong = {name for name in expected.keys() & state.keys() if expected[name].shape != state[name].shape}
    if missing or unknown or wrong:
        raise ValueError(
            f"the {what} of this checkpoint has another geometry: {len(missing)} tensors are missing,"
            f" {len(unknown)} are unknown and {len(wrong)} have another shape,"
            f" as {sorted(missing | unknown | wrong)[0]}"
        )
    module.load_state_dict({name: value.float() for name, value in state.items()})


def _read(path: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint file."""
    if path.is_dir():
        names = ("model.safetensors", "pytorch_model.bin", "model.pt")
        found = [path / name for name in names if (path / name).is_file()]
        if not found:
            raise ValueError(f"{path} holds none of {', '.join(names)}")
        path = found[0]
    if not path.is_file():
        raise ValueError(f"{path} is missing: give the checkpoint of the published autoencoder")
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        loaded: dict[str, Tensor] = load_file(path)
        return loaded
    tensors: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return tensors
