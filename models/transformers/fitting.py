"""Put tensors under our names into a model that may have more, fewer or differently shaped ones."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from models.coverage import CoverageReport
from models.transformers.assembly import patterns_of, whole_size
from models.transformers.layouts import PATCHES, State
from models.transformers.relative_bias import resize_table
from models.transformers.token_positions import interpolate_table
from models.transformers.video_transformer import VideoTransformer
from models.transformers.windows import Grid

Config = Mapping[str, Any]
BIAS = ".attention.bias.table"


def fit(
    source: Mapping[str, Tensor],
    source_config: Config,
    target: VideoTransformer,
    *,
    dropped: Mapping[str, str],
    unexplained: tuple[str, ...] = (),
) -> tuple[State, CoverageReport]:
    """The state of `target` with the source's tensors in it; where the source has none, `target` keeps its own.

    Raises `ValueError` for a tensor without a place, and for shapes that do not fit.
    """
    fresh = target.state_dict()
    state: State = {}
    notes = []
    for name, value in fresh.items():
        state[name] = (
            resize(name, source[name], value, (source_config, target.config)) if name in source else value
        )
        if name in source and source[name].shape != value.shape:
            notes.append(f"{name}: {_shape(source[name])} in the source, {_shape(value)} here")
    added = [name for name in fresh if name not in source]
    report = CoverageReport(
        loaded=tuple(name for name in fresh if name in source),
        new=tuple(name for name in added if state[name].any()),
        zero_initialised=tuple(name for name in added if not state[name].any()),
        dropped=dropped,
        unexplained=unexplained + tuple(name for name in source if name not in fresh),
        notes=(*notes, *effects(added)),
    )
    report.require_explained()
    return state, report


def effects(added: list[str]) -> list[str]:
    """What the new tensors do to the output of the model."""
    blocks = {name.removesuffix(".attention.qkv.weight") for name in added}
    normed = {name.rpartition(".attention.norm.")[0] for name in added if ".attention.norm." in name}
    found = {
        "query-key norm is new: its weights are 1, which changes the output": bool(normed - blocks),
        "the frame-rate embedding is new: its output is 0, so the output does not change": (
            "fps_embedding.out.weight" in added
        ),
        "conditions are new: they start without effect, so the output does not change": any(
            name.startswith("added_conditions.") and name.endswith("out.weight") for name in added
        ),
        "blocks are new: those that cross frames start as identity, so the output does not change": any(
            name.endswith(".attention.qkv.weight") for name in added
        ),
        "the null caption is new and random: guidance works once caption dropout has been trained with it": (
            "null_caption" in added
        ),
    }
    return [sentence for sentence, applies in found.items() if applies]


def resize(name: str, value: Tensor, like: Tensor, configs: tuple[Config, Config]) -> Tensor:
    """A source tensor in the shape of the target's.

    Some may differ: the null caption in its length, the patch projection in its input channels and the final projection
    in its output channels, where what the source does not have is 0; and tables of positions, which are interpolated.
    Raises `ValueError` for others.
    """
    value = value.to(device=like.device, dtype=like.dtype)
    if name.endswith(BIAS):
        return resize_table(value, *(window_of(name, config) for config in configs))
    if value.shape == like.shape:
        return value
    if name == "null_caption" and value.shape[1] == like.shape[1]:
        # the last row is repeated
        rows = torch.arange(len(like), device=like.device).clamp(max=len(value) - 1)
        return value[rows]
    if name == PATCHES and len(value) == len(like):
        values_per_channel = like.shape[1] // configs[1]["in_channels"]
        old, new = (x.view(len(x), -1, values_per_channel) for x in (value, like))
        return leading(old, new).flatten(1)
    if name.startswith("token_positions.") and value.shape[-1] == like.shape[-1]:
        return interpolate_table(value, like.shape[:-1])
    if name.startswith("final.projection.") and value.shape[1:] == like.shape[1:]:
        return resize_output(value, like, configs)
    raise ValueError(
        f"{name} is {_shape(value)} in the source and {_shape(like)} in the target; the two configurations must agree"
        " on width, heads, patch and caption_channels"
    )


def resize_output(value: Tensor, like: Tensor, configs: tuple[Config, Config]) -> Tensor:
    """Rows of the final projection: per value of a patch, the predicted channels and after them their variances."""
    old, new = (
        x.view(-1, config["out_channels"], *x.shape[1:])
        for x, config in zip((value, like), configs, strict=True)
    )
    before, after = (config["in_channels"] for config in configs)
    predicted = leading(old[:, :before], new[:, :after])
    variances = leading(old[:, before:], new[:, after:])
    return torch.cat((predicted, variances), dim=1).reshape(like.shape)


def window_of(name: str, config: Config) -> Grid:
    """The window of the block that a tensor of relative positions belongs to."""
    _, layer, entry, _ = name.split(".", 3)
    patterns = patterns_of(config["pattern"], temporal=True)
    return whole_size(patterns[int(layer) % len(patterns)][entry])


def leading(value: Tensor, like: Tensor) -> Tensor:
    """The shape of `like`, with the first entries of axis 1 from `value` and zeros after them."""
    out = torch.zeros_like(like)
    count = min(value.shape[1], like.shape[1])
    out[:, :count] = value[:, :count]
    return out


def _shape(tensor: Tensor) -> str:
    return " x ".join(str(side) for side in tensor.shape)
