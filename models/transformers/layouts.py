"""Names of the tensors in other people's checkpoints, and ours: PixArt (original and diffusers) and Open-Sora 1.2.

A layout is data. Translating keeps every value as it is; only the patch convolution changes its shape.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

State = dict[str, Tensor]
PATCHES = "patches.projection.weight"

_BLOCK = {
    "scale_shift_table": "modulation.table",
    "attn.qkv": "attention.qkv",
    "attn.q_norm.weight": "attention.norm.query",
    "attn.k_norm.weight": "attention.norm.key",
    "attn.proj": "attention.projection",
    "cross_attn.q_linear": "text_attention.query",
    "cross_attn.kv_linear": "text_attention.key_value",
    "cross_attn.proj": "text_attention.projection",
    "mlp.fc1": "feed_forward.hidden",
    "mlp.fc2": "feed_forward.out",
}
_REST = {
    "x_embedder.proj": "patches.projection",
    "t_embedder.mlp.0": "timestep_embedding.hidden",
    "t_embedder.mlp.2": "timestep_embedding.out",
    "t_block.1": "adaln.projection",
    "y_embedder.y_embedding": "null_caption",
    "y_embedder.y_proj.fc1": "caption.hidden",
    "y_embedder.y_proj.fc2": "caption.out",
    "final_layer.scale_shift_table": "final.table",
    "final_layer.linear": "final.projection",
}
_POSITIONS = "fixed positions, computed from the grid"
_MICRO_CONDITIONS = "size conditions of PixArt-alpha, which PixArt-Sigma left out"


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Theirs -> ours. A key names a module (its weight and bias follow) or one tensor."""

    stacks: Mapping[str, str]  # name of their list of blocks -> entry of our pattern
    block: Mapping[str, str]
    rest: Mapping[str, str]
    dropped: Mapping[str, str] = field(default_factory=dict)  # prefix -> why

    def translate(self, name: str) -> str | None:
        """Our name of their tensor, or None."""
        parts = re.fullmatch(r"(\w+)\.(\d+)\.(.+)", name)
        if parts and parts[1] in self.stacks:
            inner = _look_up(self.block, parts[3])
            return inner and f"layers.{parts[2]}.{self.stacks[parts[1]]}.{inner}"
        return _look_up(self.rest, name)

    def reason_to_drop(self, name: str) -> str | None:
        return next((why for prefix, why in self.dropped.items() if name.startswith(prefix)), None)

    def restore(self, name: str) -> str | None:
        """Their name of our tensor, or None."""
        parts = re.fullmatch(r"layers\.(\d+)\.(\w+)\.(.+)", name)
        if not parts:
            return _look_up(_inverse(self.rest), name)
        stack, inner = _inverse(self.stacks).get(parts[2]), _look_up(_inverse(self.block), parts[3])
        return f"{stack}.{parts[1]}.{inner}" if stack and inner else None


ORIGINAL = Layout(
    stacks={"blocks": "spatial"},
    block=_BLOCK,
    rest=_REST,
    dropped={
        "pos_embed": _POSITIONS,
        "csize_embedder.": _MICRO_CONDITIONS,
        "ar_embedder.": _MICRO_CONDITIONS,
    },
)
OPEN_SORA = Layout(
    stacks={"spatial_blocks": "spatial", "temporal_blocks": "temporal"},
    block=_BLOCK,
    rest={
        **_REST,
        "fps_embedder.mlp.0": "fps_embedding.hidden",
        "fps_embedder.mlp.2": "fps_embedding.out",
        "rope.freqs": "rotary.frequencies",
    },
    dropped={"pos_embed": _POSITIONS},
)
DIFFUSERS = Layout(
    stacks={"transformer_blocks": "spatial"},
    block={
        "scale_shift_table": "modulation.table",
        "attn1.to_qkv": "attention.qkv",
        "attn1.to_out.0": "attention.projection",
        "attn2.to_q": "text_attention.query",
        "attn2.to_kv": "text_attention.key_value",
        "attn2.to_out.0": "text_attention.projection",
        "ff.net.0.proj": "feed_forward.hidden",
        "ff.net.2": "feed_forward.out",
    },
    rest={
        "pos_embed.proj": "patches.projection",
        "adaln_single.emb.timestep_embedder.linear_1": "timestep_embedding.hidden",
        "adaln_single.emb.timestep_embedder.linear_2": "timestep_embedding.out",
        "adaln_single.linear": "adaln.projection",
        "caption_projection.linear_1": "caption.hidden",
        "caption_projection.linear_2": "caption.out",
        "scale_shift_table": "final.table",
        "proj_out": "final.projection",
        # diffusers keeps no null caption; who has the encoder's empty prompt adds it under the original name
        "y_embedder.y_embedding": "null_caption",
    },
    dropped={
        "pos_embed.pos_embed": _POSITIONS,
        "adaln_single.emb.resolution_embedder.": _MICRO_CONDITIONS,
        "adaln_single.emb.aspect_ratio_embedder.": _MICRO_CONDITIONS,
    },
)


def layout_of(state: Mapping[str, Tensor]) -> Layout:
    """Which layout a state dict has. Raises `ValueError` if none is recognised."""
    for stack, layout in (
        ("transformer_blocks.", DIFFUSERS),
        ("spatial_blocks.", OPEN_SORA),
        ("blocks.", ORIGINAL),
    ):
        if any(name.startswith(stack) for name in state):
            return layout
    raise ValueError(
        "no blocks.*, transformer_blocks.* or spatial_blocks.* among the tensors; give the state dict of a PixArt or"
        f" Open-Sora 1.2 transformer (first names: {', '.join(list(state)[:4])})"
    )


def translate(state: Mapping[str, Tensor], layout: Layout) -> tuple[State, dict[str, str], tuple[str, ...]]:
    """Tensors under our names, names that were dropped with the reason, and names that nothing explains."""
    ours: State = {}
    dropped: dict[str, str] = {}
    unexplained = []
    for name, value in fuse(state).items():
        if target := layout.translate(name):
            ours[target] = value.flatten(1) if target == PATCHES else value
        elif why := layout.reason_to_drop(name):
            dropped[name] = why
        else:
            unexplained.append(name)
    return ours, dropped, tuple(unexplained)


def fuse(state: Mapping[str, Tensor]) -> State:
    """Join the separate query, key and value projections of the diffusers layout; other tensors pass."""
    fused: State = {}
    for name, value in state.items():
        parts = re.fullmatch(r"(.+\.attn)([12])\.to_([qkv])\.(weight|bias)", name)
        letters = "" if not parts else "qkv" if parts[2] == "1" else "kv"
        if not parts or parts[3] not in letters:
            fused[name] = value
        elif parts[3] == letters[0]:
            group = [f"{parts[1]}{parts[2]}.to_{letter}.{parts[4]}" for letter in letters]
            missing = [other for other in group if other not in state]
            if missing:
                raise ValueError(f"{name} comes without {', '.join(missing)}; the checkpoint is incomplete")
            fused[f"{parts[1]}{parts[2]}.to_{letters}.{parts[4]}"] = torch.cat(
                [state[other] for other in group]
            )
    return fused


def restore(state: Mapping[str, Tensor], layout: Layout, patch: tuple[int, int, int]) -> State:
    """Our tensors under the names of `layout`, the patch convolution in its own shape (D, C, t, h, w).

    Raises `ValueError` naming a tensor that the layout has no name for.
    """
    theirs: State = {}
    for name, value in state.items():
        target = layout.restore(name)
        if target is None:
            raise ValueError(f"{name} has no name in that layout; it belongs to another configuration")
        theirs[target] = value.reshape(len(value), -1, *patch) if name == PATCHES else value
    return theirs


def _inverse(names: Mapping[str, str]) -> dict[str, str]:
    return {ours: theirs for theirs, ours in names.items()}


def _look_up(names: Mapping[str, str], name: str) -> str | None:
    if name in names:
        return names[name]
    module, _, tensor = name.rpartition(".")
    return f"{names[module]}.{tensor}" if module in names and tensor in ("weight", "bias") else None
