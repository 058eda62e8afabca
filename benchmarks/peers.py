"""Public transformers of the size of one of ours: what the speed of ours is measured against.

Each builder takes the configuration of our model and its latents (B, C, T, H, W), and gives a diffusers model with as
many blocks of the same width, and a call that sends the same number of tokens through it.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from diffusers import (
    CogVideoXTransformer3DModel,
    DiTTransformer2DModel,
    LTXVideoTransformer3DModel,
    PixArtTransformer2DModel,
)
from torch import Tensor, nn

Config = Mapping[str, Any]


class Peer(NamedTuple):
    """A model, and what it is called with."""

    model: nn.Module
    inputs: dict[str, Any]


def blocks_of(config: Config) -> int:
    """Blocks of one of our models, over all layers and levels."""
    depth, pattern = config["depth"], config["pattern"]
    layers = depth if isinstance(depth, int) else sum(depth)
    pattern = pattern if isinstance(pattern, Mapping) else pattern[0]
    crossing = sum(window["size"][0] != 1 for window in pattern.values())
    return layers * (len(pattern) if config["temporal"] else len(pattern) - crossing)


def _sizes(config: Config) -> dict[str, int]:
    return {
        "num_attention_heads": config["heads"],
        "attention_head_dim": config["head_width"],
        "num_layers": blocks_of(config),
    }


def pixart(config: Config, latents: Tensor) -> Peer:
    """PixArt-Sigma's blocks on each frame by itself: adaLN-single, self-attention, cross-attention, MLP."""
    batch, channels, frames, side, columns = latents.shape
    if side != columns:
        raise ValueError("PixArt has tables for square pictures; other ones would be made at every call")
    width, tokens = config["heads"] * config["head_width"], config["max_text_tokens"]
    model = PixArtTransformer2DModel(
        **_sizes(config),
        in_channels=channels,
        out_channels=config["out_channels"],
        sample_size=side,
        patch_size=config["patch"][1],
        cross_attention_dim=width,
        caption_channels=config["caption_channels"],
        use_additional_conditions=False,
    )
    pictures = batch * frames
    return Peer(
        model,
        {
            "hidden_states": latents.transpose(1, 2).flatten(0, 1),
            "encoder_hidden_states": torch.randn(pictures, tokens, config["caption_channels"]).to(latents),
            "encoder_attention_mask": torch.ones(pictures, tokens, device=latents.device),
            "timestep": torch.full((pictures,), 500.0, device=latents.device),
            "added_cond_kwargs": {"resolution": None, "aspect_ratio": None},
        },
    )


def dit(config: Config, latents: Tensor) -> Peer:
    """DiT's blocks on each frame by itself: adaLN per block, self-attention, MLP; a class instead of text."""
    batch, channels, frames, side, _ = latents.shape
    model = DiTTransformer2DModel(
        **_sizes(config),
        in_channels=channels,
        out_channels=config["out_channels"],
        sample_size=side,
        patch_size=config["patch"][1],
        norm_num_groups=1,
        num_embeds_ada_norm=1000,
    )
    pictures = batch * frames
    return Peer(
        model,
        {
            "hidden_states": latents.transpose(1, 2).flatten(0, 1),
            "timestep": torch.full((pictures,), 500, device=latents.device),
            "class_labels": torch.zeros(pictures, dtype=torch.int64, device=latents.device),
        },
    )


def cogvideox(config: Config, latents: Tensor) -> Peer:
    """CogVideoX: text and video tokens in one sequence, joint attention over all of them, MLP."""
    batch, channels, frames, rows, columns = latents.shape
    tokens, patch = config["max_text_tokens"], config["patch"][1]
    rows, columns = rows // patch * patch, columns // patch * patch
    model = CogVideoXTransformer3DModel(
        **_sizes(config),
        in_channels=channels,
        out_channels=config["out_channels"],
        text_embed_dim=config["caption_channels"],
        max_text_seq_length=tokens,
        patch_size=patch,
        sample_height=rows,
        sample_width=columns,
        sample_frames=4 * (frames - 1) + 1,
    )
    return Peer(
        model,
        {
            "hidden_states": latents[..., :rows, :columns].transpose(1, 2),
            "encoder_hidden_states": torch.randn(batch, tokens, config["caption_channels"]).to(latents),
            "timestep": torch.full((batch,), 500.0, device=latents.device),
        },
    )


def ltx(config: Config, latents: Tensor) -> Peer:
    """LTX-Video: rotary joint attention over all tokens, cross-attention, MLP."""
    batch, channels, frames, rows, columns = latents.shape
    patch, tokens = config["patch"], config["max_text_tokens"]
    rows, columns = rows // patch[1], columns // patch[2]
    model = LTXVideoTransformer3DModel(
        **_sizes(config),
        in_channels=channels * patch[1] * patch[2],
        out_channels=config["out_channels"] * patch[1] * patch[2],
        cross_attention_dim=config["heads"] * config["head_width"],
        caption_channels=config["caption_channels"],
    )
    sequence = torch.randn(batch, frames * rows * columns, channels * patch[1] * patch[2])
    return Peer(
        model,
        {
            "hidden_states": sequence.to(latents),
            "encoder_hidden_states": torch.randn(batch, tokens, config["caption_channels"]).to(latents),
            "encoder_attention_mask": torch.ones(batch, tokens, device=latents.device),
            "timestep": torch.full((batch,), 500, device=latents.device),
            "num_frames": frames,
            "height": rows,
            "width": columns,
        },
    )


PEERS: dict[str, Callable[[Config, Tensor], Peer]] = {
    "PixArt": pixart,
    "DiT": dit,
    "CogVideoX": cogvideox,
    "LTX": ltx,
}
