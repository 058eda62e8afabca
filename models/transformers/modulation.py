"""Modulation: how time and the other conditions reach a block, as objects that a model is made of.

Three kinds. AdaLN-single (PixArt-alpha, arXiv 2310.00426): one projection of the time embedding for the whole network
and a learned table per block. AdaLN-LoRA (W.A.L.T, arXiv 2312.06662): one projection, and a product of two narrow
matrices per block. Separate AdaLN (DiT, arXiv 2212.09748): a projection per block.
B batch, F frames with a time of their own (1 if all share one), P parts (three per modulated sub-layer), D width.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.transformers.initialise import SpecialStart, zero


class Condition(NamedTuple):
    """What the network knows of time and of what is added to it."""

    embedded: Tensor  # (B, F, D)
    shared: Tensor  # (B, F, 1, 1, P, D): its projection, the same for all blocks
    noisy: Tensor  # (B, 1, D): `embedded` of frames at the time of the sample
    frame_mask: Tensor | None = None  # (B, T), False on frames at time 0


class Modulation(NamedTuple):
    """What is done around one sub-layer. Each (B, F, 1, 1, D), against tokens (B, T, H, W, D)."""

    shift: Tensor
    scale: Tensor
    gate: Tensor

    def apply(self, x: Tensor) -> Tensor:
        """Normalised tokens, scaled and shifted."""
        return torch.addcmul(self.shift, x, 1 + self.scale)

    def gated(self, x: Tensor, update: Tensor) -> Tensor:
        """Tokens plus the gated output of the sub-layer."""
        return torch.addcmul(x, self.gate, update)


def per_sublayer(parts: Tensor) -> tuple[Modulation, ...]:
    """(B, F, 1, 1, P, D) -> one `Modulation` for each three parts."""
    values = parts.unbind(-2)
    return tuple(Modulation(*values[start : start + 3]) for start in range(0, len(values), 3))


class AdaLNSingle(nn.Module):
    """Embeddings (B, F, D) of time -> (B, F, 1, 1, P, D), shared by all blocks."""

    def __init__(self, width: int, parts: int) -> None:
        super().__init__()
        self.parts = parts
        self.projection = nn.Linear(width, parts * width)

    def forward(self, embedded: Tensor) -> Tensor:
        parts: Tensor = self.projection(functional.silu(embedded))
        return parts.view(*embedded.shape[:2], 1, 1, self.parts, -1)


class AdaLNZero(AdaLNSingle, SpecialStart):
    """The same, with all gates closed at the start (adaLN-Zero of DiT)."""

    def start(self) -> None:
        zero(self.projection)


class NothingShared(nn.Module):
    """In the place of a shared projection, where every block has its own."""

    def forward(self, embedded: Tensor) -> Tensor:
        return embedded[:, :, None, None, None]


class ModulationTable(nn.Module):
    """What one block adds to the shared projection: a table that does not depend on time."""

    gates_start_closed = False

    def __init__(self, width: int, parts: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(parts, width) / width**0.5)

    def forward(self, condition: Condition) -> tuple[Modulation, ...]:
        return per_sublayer(self.table + condition.shared)


class LowRankModulation(SpecialStart):
    """What one block adds to the shared projection A_1: A_i = A_1 + e W_down W_up, e the embedding of time."""

    gates_start_closed = True

    def __init__(self, width: int, parts: int, rank: int) -> None:
        super().__init__()
        self.parts = parts
        self.down = nn.Linear(width, rank, bias=False)
        self.up = nn.Linear(rank, parts * width, bias=False)

    def forward(self, condition: Condition) -> tuple[Modulation, ...]:
        own = self.up(self.down(condition.embedded)).view(*condition.embedded.shape[:2], 1, 1, self.parts, -1)
        return per_sublayer(condition.shared + own)

    def start(self) -> None:
        zero(self.up)


class SharedModulation(nn.Module):
    """The shared projection as it is."""

    gates_start_closed = True

    def forward(self, condition: Condition) -> tuple[Modulation, ...]:
        return per_sublayer(condition.shared)


class OwnModulation(nn.Module):
    """A projection of this block alone."""

    gates_start_closed = True

    def __init__(self, width: int, parts: int) -> None:
        super().__init__()
        self.adaln = AdaLNZero(width, parts)

    def forward(self, condition: Condition) -> tuple[Modulation, ...]:
        return per_sublayer(self.adaln(condition.embedded))


class FinalLayer(nn.Module):
    """Tokens (B, T, H, W, D) -> (B, T, H, W, values of a patch), modulated by time and a table.

    Open-Sora 1.2 shows frames at time 0 both modulations, that of time 0 after that of the sample's time. Those frames
    leave neither the loss nor the sampler; they are computed the same way here, so that outputs can be compared.
    """

    def __init__(self, width: int, patch_values: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.table = nn.Parameter(torch.randn(2, width) / width**0.5)
        self.projection = nn.Linear(width, patch_values)

    def forward(self, x: Tensor, condition: Condition) -> Tensor:
        x = self.modulate(x, condition.noisy)
        if condition.frame_mask is not None:
            at_time_zero = self.modulate(x, condition.embedded)
            x = torch.where(condition.frame_mask[:, :, None, None, None], x, at_time_zero)
        out: Tensor = self.projection(x)
        return out

    def modulate(self, x: Tensor, embedded: Tensor) -> Tensor:
        shift, scale = (self.table + embedded[:, :, None, None, None]).unbind(-2)
        return torch.addcmul(shift, self.norm(x), 1 + scale)


class FinalAdaLN(SpecialStart):
    """Tokens (B, T, H, W, D) -> (B, T, H, W, values of a patch), modulated by a projection of its own."""

    def __init__(self, width: int, patch_values: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.adaln = AdaLNZero(width, 2)
        self.projection = nn.Linear(width, patch_values)

    def forward(self, x: Tensor, condition: Condition) -> Tensor:
        shift, scale = self.adaln(condition.embedded).unbind(-2)
        out: Tensor = self.projection(torch.addcmul(shift, self.norm(x), 1 + scale))
        return out

    def start(self) -> None:
        zero(self.projection)


class ModulationKind(Protocol):
    """The modules of one kind of modulation."""

    def shared(self, width: int, parts: int) -> nn.Module:
        """Embeddings (B, F, D) -> what all blocks get."""

    def block(self, width: int, parts: int, index: int) -> nn.Module:
        """`Condition` -> the modulation of each sub-layer of block `index`."""

    def final(self, width: int, patch_values: int) -> nn.Module:
        """Tokens and `Condition` -> the values of their patches."""


@dataclass(frozen=True)
class Single:
    """One projection, a table per block."""

    def shared(self, width: int, parts: int) -> nn.Module:
        return AdaLNSingle(width, parts)

    def block(self, width: int, parts: int, index: int) -> nn.Module:  # noqa: ARG002  # of every block
        return ModulationTable(width, parts)

    def final(self, width: int, patch_values: int) -> nn.Module:
        return FinalLayer(width, patch_values)


@dataclass(frozen=True)
class LowRank:
    """One projection, a low-rank term per block: AdaLN-LoRA. The published counts include one in the first block."""

    rank: int = 2
    first: bool = (
        True  # whether the first block has one: the text of W.A.L.T leaves it out, its counts do not
    )

    def shared(self, width: int, parts: int) -> nn.Module:
        return AdaLNZero(width, parts)

    def block(self, width: int, parts: int, index: int) -> nn.Module:
        if index == 0 and not self.first:
            return SharedModulation()
        return LowRankModulation(width, parts, self.rank)

    def final(self, width: int, patch_values: int) -> nn.Module:
        return FinalAdaLN(width, patch_values)


@dataclass(frozen=True)
class Separate:
    """A projection per block."""

    def shared(self, width: int, parts: int) -> nn.Module:  # noqa: ARG002  # nothing to size
        return NothingShared()

    def block(self, width: int, parts: int, index: int) -> nn.Module:  # noqa: ARG002  # of every block
        return OwnModulation(width, parts)

    def final(self, width: int, patch_values: int) -> nn.Module:
        return FinalAdaLN(width, patch_values)


MODULATIONS: Mapping[str, Callable[..., ModulationKind]] = {
    "single": Single,
    "lora": LowRank,
    "separate": Separate,
}
