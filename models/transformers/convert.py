"""Weights of one transformer into another: PixArt and Open-Sora 1.2 into ours, and ours into a larger configuration.

Every conversion returns a `CoverageReport`; a tensor of the source without a place is an error, never a silence.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from models.checkpoint import check_exact, load_diffusers, read_tensors, shapes_of
from models.coverage import CoverageReport
from models.positions import inverse_wavelengths
from models.transformers.fitting import fit
from models.transformers.layouts import OPEN_SORA, State, layout_of, restore, translate
from models.transformers.video_transformer import VideoTransformer

PIXART_HEAD_WIDTH = 72  # of every published PixArt; the original layout does not say
FREQUENCIES = "rotary.frequencies"
PIXART_STRIDE = 8  # pixels per latent in the published autoencoders
GROWABLE = (
    "qk_norm",
    "fps_conditioning",
    "conditions",
    "temporal",
    "pattern",
    "positions",
    "in_channels",
    "out_channels",
    "max_text_tokens",
    "base_pixels",
)


class PixArtWeights(NamedTuple):
    """A PixArt transformer as it was saved."""

    state: State
    config: dict[str, Any]  # keys of diffusers' `PixArtTransformer2DModel`


def read_pixart(path: Path) -> PixArtWeights:
    """From a diffusers folder, or from a .pth or .safetensors file in the original layout.

    Raises `ValueError` where there is neither, and for a file that is cut short or holds more than tensors.
    """
    if path.is_dir():
        from diffusers import PixArtTransformer2DModel

        model = load_diffusers(PixArtTransformer2DModel, path)
        return PixArtWeights(model.state_dict(), dict(model.config))
    if not path.is_file():
        raise ValueError(f"{path} is neither a folder saved by diffusers nor a checkpoint file of PixArt")
    state = read_tensors(path)
    return PixArtWeights(state, _infer_pixart_config(state))


def image_config(
    pixart_config: Mapping[str, Any], *, spatial_stride: int, max_text_tokens: int
) -> dict[str, Any]:
    """Our configuration of the same image model: its output is that of PixArt where fps does not matter.

    `spatial_stride` is the number of pixels per latent of the autoencoder that the model goes with.
    """
    sample = pixart_config["sample_size"]
    scale = pixart_config.get("interpolation_scale") or max(sample // 64, 1)
    channels = pixart_config["in_channels"]
    return {
        "in_channels": channels,
        "out_channels": pixart_config.get("out_channels") or channels,
        "patch": [1, pixart_config["patch_size"], pixart_config["patch_size"]],
        "depth": pixart_config["num_layers"],
        "heads": pixart_config["num_attention_heads"],
        "head_width": pixart_config["attention_head_dim"],
        "caption_channels": pixart_config["caption_channels"],
        "max_text_tokens": max_text_tokens,
        "base_pixels": round(sample * spatial_stride / scale),
        "qk_norm": False,
        "fps_conditioning": False,
        "temporal": False,
    }


def pixart_to_ours(
    state_dict: Mapping[str, Tensor],
    pixart_config: Mapping[str, Any],
    target_config: Mapping[str, Any],
    *,
    seed: int = 0,
) -> tuple[State, CoverageReport]:
    """The complete state of a `VideoTransformer` of `target_config` from PixArt weights in either layout.

    Only the spatial blocks exist in PixArt; what the target has besides is drawn with `seed`. Raises `ValueError` for
    tensors without a place, and where the two configurations do not fit together.
    """
    ours, dropped, unexplained = translate(state_dict, layout_of(state_dict))
    source = image_config(pixart_config, spatial_stride=PIXART_STRIDE, max_text_tokens=1)
    target = build(target_config, seed)
    _require_same(source, target.config, ("depth", "heads", "head_width", "caption_channels"))
    return fit(ours, source, target, dropped=dropped, unexplained=unexplained)


def open_sora_config(theirs: Mapping[str, Any]) -> dict[str, Any]:
    """Our configuration of the model that a config.json of Open-Sora 1.2's STDiT3 describes."""
    channels = theirs.get("in_channels", 4)
    return {
        "in_channels": channels,
        "out_channels": channels * (2 if theirs.get("pred_sigma", True) else 1),
        "patch": list(theirs.get("patch_size", (1, 2, 2))),
        "depth": theirs["depth"],
        "heads": theirs["num_heads"],
        "head_width": theirs["hidden_size"] // theirs["num_heads"],
        "mlp_ratio": theirs.get("mlp_ratio", 4.0),
        "caption_channels": theirs.get("caption_channels", 4096),
        "max_text_tokens": theirs.get("model_max_length", 300),
        "base_pixels": theirs.get("input_sq_size", 512),
        "qk_norm": theirs.get("qk_norm", True),
    }


def open_sora_to_ours(
    state_dict: Mapping[str, Tensor], config: Mapping[str, Any]
) -> tuple[State, CoverageReport]:
    """The state of a `VideoTransformer` of `config` from weights of Open-Sora 1.2's STDiT3, value for value.

    Raises `ValueError` for tensors without a place, where names or shapes are not those of `config`, and for rotary
    frequencies other than the published ones.
    """
    ours, dropped, unexplained = translate(state_dict, OPEN_SORA)
    expected = expected_shapes(config)
    report = CoverageReport(
        loaded=tuple(name for name in expected if name in ours),
        new=(),
        zero_initialised=(),
        dropped=dropped,
        unexplained=unexplained + tuple(name for name in ours if name not in expected),
    )
    report.require_explained()
    check_exact(expected, shapes_of(ours), "this checkpoint of STDiT3")
    if (frequencies := ours.get(FREQUENCIES)) is not None:
        published = inverse_wavelengths(len(frequencies), frequencies.device)
        if not torch.allclose(frequencies.float(), published, rtol=1e-2):
            raise ValueError(
                "rope.freqs are not 10000^(-2i/d), the only rotary frequencies that this model computes"
            )
    return ours, report


def ours_to_open_sora(state_dict: Mapping[str, Tensor], config: Mapping[str, Any]) -> State:
    """The state of a `VideoTransformer` of `config` under the names and in the shapes of Open-Sora 1.2.

    Raises `ValueError` where names or shapes are not those of `config`, and for parts that Open-Sora does not have.
    """
    check_exact(expected_shapes(config), shapes_of(state_dict), "this state")
    frames, rows, columns = config.get("patch", (1, 2, 2))
    return restore(state_dict, OPEN_SORA, (frames, rows, columns))


def expected_shapes(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the tensors of a model."""
    with torch.device("meta"):
        return shapes_of(VideoTransformer(**public(config)).state_dict())


def grow(
    model: VideoTransformer, *, seed: int = 0, **config_changes: Any
) -> tuple[VideoTransformer, CoverageReport]:
    """A model of a changed configuration from the weights of an existing one; the notes of the report say what changes.

    Raises `ValueError` for a change that would leave no trained weight in its place, as of depth or width.
    """
    refused = sorted(set(config_changes) - set(GROWABLE))
    if refused:
        raise ValueError(
            f"cannot change {', '.join(refused)} of a trained model; possible: {', '.join(GROWABLE)}"
        )
    source = public(model.config)
    target = build({**source, **config_changes}, seed)
    old, fresh = model.state_dict(), target.state_dict()
    dropped = {name: "not in the new configuration" for name in old if name not in fresh}
    kept = {name: value for name, value in old.items() if name in fresh}
    state, report = fit(kept, source, target, dropped=dropped)
    target.load_state_dict(state)
    torch.nn.Module.to(target, model.device, model.dtype)  # diffusers' own `to` warns of an empty list
    return target.train(model.training), report


def build(config: Mapping[str, Any], seed: int = 0) -> VideoTransformer:
    """A freshly initialised model; the global random state is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: VideoTransformer = VideoTransformer(**public(config))
    return model


def public(config: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of a configuration without those that diffusers adds for itself.

    One of them lists the keys that were left at their default, and makes diffusers ignore later changes to them.
    """
    return {key: value for key, value in config.items() if not key.startswith("_")}


def _require_same(source: Mapping[str, Any], target: Mapping[str, Any], keys: tuple[str, ...]) -> None:
    different = [
        f"{key} is {source[key]} in PixArt and {target[key]} in the target"
        for key in keys
        if source[key] != target[key]
    ]
    if different:
        raise ValueError(f"{'; '.join(different)}: set them in the target as in PixArt")


def _infer_pixart_config(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """What the shapes of the original layout tell, in diffusers' keys."""
    width, channels, patch, _ = state["x_embedder.proj.weight"].shape
    blocks = {name.split(".")[1] for name in state if name.startswith("blocks.")}
    tokens = state["pos_embed"].shape[1] if "pos_embed" in state else 32**2
    return {
        "num_layers": len(blocks),
        "num_attention_heads": width // PIXART_HEAD_WIDTH,
        "attention_head_dim": PIXART_HEAD_WIDTH,
        "in_channels": channels,
        "out_channels": len(state["final_layer.linear.bias"]) // patch**2,
        "patch_size": patch,
        "caption_channels": state["y_embedder.y_proj.fc1.weight"].shape[1],
        "sample_size": round(tokens**0.5) * patch,
    }
