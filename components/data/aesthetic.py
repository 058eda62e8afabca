"""How much people would like a picture: the LAION aesthetic head on CLIP ViT-L/14.

Published filters are in its unit (4.5 and more in Open-Sora's second stage; 5.5 is fair, 6.5 high). The score of a
clip is the mean over three frames, as published.
"""

import pickle
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from components.data.clip_model import load
from components.data.video import Pixels
from components.errors import UserError


@lru_cache(maxsize=1)
def load_head(weights: Path) -> nn.Sequential:
    """The linear layers of the head, which has no activations (768-1024-128-64-16-1 as published).

    Raises `UserError` when the file holds something else.
    """
    try:
        state: Mapping[str, Tensor] = (
            load_file(weights)
            if weights.suffix == ".safetensors"
            else torch.load(weights, map_location="cpu", weights_only=True)
        )
        numbers = sorted(int(name.split(".")[-2]) for name in state if name.endswith(".weight"))
        prefix = next(name for name in state if name.endswith(".weight")).rsplit(".", 2)[0]
        layers = [_layer(state, f"{prefix}.{number}") for number in numbers]
    except (RuntimeError, KeyError, ValueError, IndexError, StopIteration, pickle.UnpicklingError) as error:
        raise UserError(
            f"score.aesthetic_weights: {weights} does not hold the LAION aesthetic head: {error}"
        ) from None
    return nn.Sequential(*layers).eval()


def _layer(state: Mapping[str, Tensor], name: str) -> nn.Linear:
    weight, bias = state[f"{name}.weight"], state[f"{name}.bias"]
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    layer.load_state_dict({"weight": weight, "bias": bias})
    return layer


@torch.no_grad()
def aesthetic(frames: Sequence[Pixels], clip_weights: Path, weights: Path) -> float:
    """Mean score of frames (H, W, 3)."""
    return float(load_head(weights)(load(clip_weights).images(frames).cpu()).mean())
