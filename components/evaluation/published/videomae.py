"""The VideoMAE of content-debiased FVD (Ge et al. 2024): ViT-g on 2 x 14 x 14 tubes, of Something-Something.

Parameter names are those of VideoMAE v2's checkpoint `vit_g_hybrid_pt_1200e_ssv2_ft.pth`. Its features, unlike I3D's,
change with the order of frames more than with their content.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional

from models.checkpoint import check_exact, read_tensors, shapes_of

HEAD = "head."  # the classifier, which is not used
NORM_EPS = 1e-6
BASE = 10_000.0


@dataclass(frozen=True)
class VideoMaeConfig:
    """Geometry; the defaults are ViT-g's."""

    width: int = 1408
    depth: int = 40
    heads: int = 16
    hidden: int = 6144
    patch: int = 14
    tube: int = 2
    frames: int = 16
    size: int = 224

    @property
    def tokens(self) -> int:
        return (self.frames // self.tube) * (self.size // self.patch) ** 2


class Attention(nn.Module):
    """Self-attention whose keys have no bias."""

    def __init__(self, config: VideoMaeConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.q_bias = nn.Parameter(torch.zeros(config.width))
        self.v_bias = nn.Parameter(torch.zeros(config.width))
        self.qkv = nn.Linear(config.width, 3 * config.width, bias=False)
        self.proj = nn.Linear(config.width, config.width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D) -> (B, N, D)."""
        bias = torch.cat([self.q_bias, torch.zeros_like(self.v_bias), self.v_bias])
        parts = functional.linear(x, self.qkv.weight, bias)
        query, key, value = rearrange(parts, "b n (p h d) -> p b h n d", p=3, h=self.heads)
        mixed = functional.scaled_dot_product_attention(query, key, value)
        projected: Tensor = self.proj(mixed.transpose(1, 2).flatten(2))
        return projected


class Mlp(nn.Module):
    def __init__(self, config: VideoMaeConfig) -> None:
        super().__init__()
        self.fc1 = nn.Linear(config.width, config.hidden)
        self.fc2 = nn.Linear(config.hidden, config.width)

    def forward(self, x: Tensor) -> Tensor:
        projected: Tensor = self.fc2(functional.gelu(self.fc1(x)))
        return projected


class Block(nn.Module):
    def __init__(self, config: VideoMaeConfig) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.width, eps=NORM_EPS)
        self.attn = Attention(config)
        self.norm2 = nn.LayerNorm(config.width, eps=NORM_EPS)
        self.mlp = Mlp(config)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        mixed: Tensor = x + self.mlp(self.norm2(x))
        return mixed


class PatchEmbedding(nn.Module):
    def __init__(self, config: VideoMaeConfig) -> None:
        super().__init__()
        kernel = (config.tube, config.patch, config.patch)
        self.proj = nn.Conv3d(3, config.width, kernel, stride=kernel)

    def forward(self, clips: Tensor) -> Tensor:
        tokens: Tensor = self.proj(clips).flatten(2).transpose(1, 2)
        return tokens


class VideoMae(nn.Module):
    """Clips (B, 3, 16, 224, 224) in [0, 1] -> features (B, 1408): the normalised mean token."""

    positions: Tensor

    def __init__(self, config: VideoMaeConfig) -> None:
        super().__init__()
        self.config = config
        self.patch_embed = PatchEmbedding(config)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.fc_norm = nn.LayerNorm(config.width, eps=NORM_EPS)
        self.register_buffer("positions", sine_positions(config.tokens, config.width), persistent=False)

    @classmethod
    def from_file(cls, path: Path, config: VideoMaeConfig | None = None) -> "VideoMae":
        """Raises `ValueError` naming what is missing in the file."""
        state = {name: value for name, value in read_tensors(path).items() if not name.startswith(HEAD)}
        network = cls(config or VideoMaeConfig())
        wanted = shapes_of(network.state_dict())
        check_exact(wanted, shapes_of(state), f"{path}, which should be a finetuned VideoMAE,")
        network.load_state_dict(state)
        return network.eval().requires_grad_(False)

    def forward(self, clips: Tensor) -> Tensor:
        x = self.patch_embed(clips) + self.positions
        for block in self.blocks:
            x = block(x)
        features: Tensor = self.fc_norm(x.mean(dim=1))
        return features


def sine_positions(count: int, width: int) -> Tensor:
    """(count, width): sines at even places and cosines at odd ones, of wavelengths 2 pi to 10,000 * 2 pi."""
    exponents = torch.arange(width, dtype=torch.float64) // 2 * 2 / width
    angles = torch.arange(count, dtype=torch.float64)[:, None] / BASE**exponents
    angles[:, 0::2], angles[:, 1::2] = angles[:, 0::2].sin(), angles[:, 1::2].cos()
    return angles.float()
