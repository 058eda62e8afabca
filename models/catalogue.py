"""What can be built: every preset with its size, counted on the meta device, and the shapes it works on."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any, Literal

import torch
from torch import nn

from models.autoencoders.presets import AUTOENCODERS
from models.shapes import LatentGeometry
from models.transformers.presets import PRESETS, preset

TWIN = "-tiny"  # ends the name of the small copy of a preset that tests use


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One preset."""

    name: str
    kind: Literal["transformer", "autoencoder"]
    system: str
    parameters: int
    parts: Mapping[str, int]  # parameters of the parts of an autoencoder
    published: str  # what the publication says of the size
    video: tuple[int, int, int]  # frames, height and width of the published resolution
    latent: tuple[int, int, int, int]  # channels, frames, height and width of `video`
    tokens: int | None  # of a transformer, for `video`
    autoencoder: str | None  # of a transformer: the name of the one that makes its latents
    strides: tuple[int, int] | None  # of an autoencoder: frames and pixels per latent
    config: Mapping[str, Any]

    @property
    def is_twin(self) -> bool:
        """True for the small copy that tests use."""
        return self.name.endswith(TWIN)

    def as_dict(self) -> dict[str, Any]:
        """For JSON; without the configuration."""
        values = asdict(self)
        del values["config"]
        return values


def names() -> list[str]:
    """All presets, transformers first."""
    return [*PRESETS, *AUTOENCODERS]


def catalogue(*, twins: bool = False) -> list[Entry]:
    """All presets, in the order of `names`; with `twins` also the small copies."""
    return [entry(name) for name in names() if twins or not name.endswith(TWIN)]


@cache
def entry(name: str) -> Entry:
    """One preset; building it takes a fraction of a second and no memory. Raises `ValueError` listing the names."""
    if name in PRESETS:
        return _transformer(name)
    if name in AUTOENCODERS:
        return _autoencoder(name)
    known = ", ".join(name for name in names() if not name.endswith(TWIN))
    raise ValueError(f"there is no model `{name}`; models: {known}, and NAME{TWIN} of each")


def parameters_of(module: nn.Module) -> int:
    """All parameters, the frozen ones too, as publications count them."""
    return sum(parameter.numel() for parameter in module.parameters())


def _transformer(name: str) -> Entry:
    known = PRESETS[name]
    with torch.device("meta"):
        model = preset(name)
    return Entry(
        name=name,
        kind="transformer",
        system=known.system,
        parameters=parameters_of(model),
        parts={},
        published=known.published,
        video=known.video,
        latent=known.latent,
        tokens=known.tokens,
        autoencoder=known.autoencoder,
        strides=None,
        config=_public(json.loads(model.to_json_string())),
    )


def _autoencoder(name: str) -> Entry:
    known = AUTOENCODERS[name]
    with torch.device("meta"):
        codec = known.build()
    geometry: LatentGeometry = codec.geometry
    counts = {part: parameters_of(module) for part, module in codec.named_children()}
    return Entry(
        name=name,
        kind="autoencoder",
        system=known.system,
        parameters=parameters_of(codec),
        parts={part: count for part, count in counts.items() if count},
        published=known.published,
        video=known.video,
        latent=geometry.latent_shape(*known.video),
        tokens=None,
        autoencoder=None,
        strides=(geometry.temporal_stride, geometry.spatial_stride),
        config=asdict(known.config),
    )


def _public(config: Mapping[str, Any]) -> dict[str, Any]:
    """Without the keys that diffusers adds for itself."""
    return {key: value for key, value in config.items() if not key.startswith("_")}
