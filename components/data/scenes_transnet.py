"""Shots as TransNet V2 finds them (Soucek and Lokoc 2020), from a file of its published PyTorch weights.

Written from the paper and the published names and shapes of the weights: dilated 3-D convolutions over small frames,
and the similarity of each frame to the fifty on either side. On a GPU host this is the better detector of gradual
transitions; on a CPU it is slow.
"""

import pickle
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from components.data.transitions import Span
from components.data.video import VideoFile, scaled
from components.errors import UserError
from components.storage import Place

HEIGHT, WIDTH = 27, 48
FILTERS, LEVELS, HIDDEN = 16, 3, 1024
LOOKUP = 101  # frames whose similarity a frame is told: fifty on either side
DILATIONS = (1, 2, 4, 8)
WINDOW, STEP = 100, 50  # frames at a time; the middle half of each is kept
THRESHOLD = 0.5
COLOUR_BITS = 3  # per channel of the histogram
EPSILON = 1e-3  # of the normalisation


class DilatedConvolution(nn.Module):
    """(B, C, T, H, W) -> (B, filters, T, H, W): space first, then time at a distance."""

    def __init__(self, channels: int, filters: int, dilation: int) -> None:
        super().__init__()
        space = nn.Conv3d(channels, 2 * filters, (1, 3, 3), padding=(0, 1, 1), bias=False)
        time = nn.Conv3d(
            2 * filters, filters, (3, 1, 1), dilation=(dilation, 1, 1), padding=(dilation, 0, 0), bias=False
        )
        self.layers = nn.ModuleList([space, time])

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


class DilatedBlock(nn.Module):
    """Four dilations side by side, normalised: `filters` channels of each."""

    def __init__(self, channels: int, filters: int) -> None:
        super().__init__()
        for dilation in DILATIONS:
            self.add_module(f"Conv3D_{dilation}", DilatedConvolution(channels, filters, dilation))
        self.bn = nn.BatchNorm3d(len(DILATIONS) * filters, eps=EPSILON)

    def forward(self, x: Tensor) -> Tensor:
        branches = [self.get_submodule(f"Conv3D_{dilation}")(x) for dilation in DILATIONS]
        normalised: Tensor = self.bn(torch.cat(branches, dim=1))
        return normalised


class Stack(nn.Module):
    """Two blocks with a shortcut around the second; halves height and width."""

    def __init__(self, channels: int, filters: int) -> None:
        super().__init__()
        self.DDCNN = nn.ModuleList(
            [DilatedBlock(channels, filters), DilatedBlock(len(DILATIONS) * filters, filters)]
        )

    def forward(self, x: Tensor) -> Tensor:
        shortcut = functional.relu(self.DDCNN[0](x))
        x = functional.relu(self.DDCNN[1](shortcut)) + shortcut
        return functional.avg_pool3d(x, (1, 2, 2))


class Similarity(nn.Module):
    """(B, T, C) features -> (B, T, 128): cosine with the frames around, through a linear layer."""

    def __init__(self, channels: int | None) -> None:
        super().__init__()
        if channels is not None:
            self.projection = nn.Linear(channels, 128)
        self.fc = nn.Linear(LOOKUP, 128)

    def forward(self, features: Tensor) -> Tensor:
        if hasattr(self, "projection"):
            features = self.projection(features)
        features = functional.normalize(features, dim=2)
        cosine = features @ features.transpose(1, 2)  # (B, T, T)
        frames, reach = features.shape[1], LOOKUP // 2
        padded = functional.pad(cosine, (reach, reach))
        around = torch.arange(frames)[:, None] + torch.arange(LOOKUP)  # frame t looks at columns t .. t + 100
        nearby = padded.gather(2, around.to(padded.device).expand(len(padded), -1, -1))
        return functional.relu(self.fc(nearby))


class TransNetV2(nn.Module):
    """Frames (B, T, 27, 48, 3) uint8 -> logit (B, T) that a frame is the last of its shot or in a transition."""

    def __init__(self) -> None:
        super().__init__()
        widths = [FILTERS * 2**level for level in range(LEVELS)]
        inputs = [3, *(len(DILATIONS) * width for width in widths[:-1])]
        self.SDDCNN = nn.ModuleList(map(Stack, inputs, widths))
        self.frame_sim_layer = Similarity(len(DILATIONS) * sum(widths))
        self.color_hist_layer = Similarity(None)
        cells = (HEIGHT >> LEVELS) * (WIDTH >> LEVELS)
        self.fc1 = nn.Linear(len(DILATIONS) * widths[-1] * cells + 2 * 128, HIDDEN)
        self.cls_layer1 = nn.Linear(HIDDEN, 1)
        self.cls_layer2 = nn.Linear(HIDDEN, 1)  # all frames of a transition; used in training only

    def forward(self, frames: Tensor) -> Tensor:
        x = frames.permute(0, 4, 1, 2, 3).float() / 255  # (B, 3, T, H, W)
        means = []
        for stack in self.SDDCNN:
            x = stack(x)
            means.append(x.mean(dim=(3, 4)))
        flat = x.permute(0, 2, 3, 4, 1).flatten(2)  # (B, T, h * w * C)
        similar = self.frame_sim_layer(torch.cat(means, dim=1).transpose(1, 2))
        colours = self.color_hist_layer(histograms(frames))
        hidden = functional.relu(self.fc1(torch.cat([colours, similar, flat], dim=2)))
        logits: Tensor = self.cls_layer1(hidden)[..., 0]
        return logits


def histograms(frames: Tensor) -> Tensor:
    """(B, T, H, W, 3) uint8 -> (B, T, 512): pixels per colour."""
    red, green, blue = (frames.long() >> 8 - COLOUR_BITS).unbind(dim=-1)
    bins = ((red << 2 * COLOUR_BITS) + (green << COLOUR_BITS) + blue).flatten(2)  # (B, T, H * W)
    counts = torch.zeros(*bins.shape[:2], 8**COLOUR_BITS, device=frames.device)
    return counts.scatter_add_(2, bins, torch.ones_like(bins, dtype=counts.dtype))


@lru_cache(maxsize=1)
def load(weights: Path) -> TransNetV2:
    """The network with its published weights. Raises `UserError` when the file holds something else."""
    model = TransNetV2()
    try:
        state: Mapping[str, Tensor] = torch.load(weights, map_location="cpu", weights_only=True)
        model.load_state_dict(state)
    except (RuntimeError, KeyError, ValueError, TypeError, EOFError, pickle.UnpicklingError) as error:
        raise UserError(f"split.weights: {weights} does not hold weights of TransNetV2: {error}") from None
    return model.eval().to("cuda" if torch.cuda.is_available() else "cpu")


def find_shots(path: Place, weights: Path) -> tuple[list[float], float, list[Span]]:
    """Times of the frames, the end, and the frames [first, after) of each shot. Raises `UndecodableError`."""
    model = load(weights)
    times: list[float] = []
    frames: list[NDArray[np.uint8]] = []
    with VideoFile(path) as video:
        for timed in video.frames():
            times.append(timed.seconds)
            frames.append(scaled(timed.frame, HEIGHT, WIDTH, fast=True))
        end = times[-1] + video.frame_seconds if times else 0.0
    return times, end, shots_of(probabilities(model, np.stack(frames))) if frames else []


@torch.no_grad()
def probabilities(model: TransNetV2, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(T,) of frames (T, 27, 48, 3), seen in windows of which the middle is kept, as published."""
    device = next(model.parameters()).device
    kept = [
        torch.sigmoid(model(torch.from_numpy(window)[None].to(device)))[0, STEP // 2 : -STEP // 2]
        for window in _windows(frames)
    ]
    found: NDArray[np.float32] = torch.cat(kept)[: len(frames)].cpu().numpy()
    return found


def _windows(frames: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    """Overlapping windows; the first and the last frame are repeated beyond the ends."""
    missing = -len(frames) % STEP
    padded = np.pad(frames, ((STEP // 2, STEP // 2 + missing), (0, 0), (0, 0), (0, 0)), mode="edge")
    for start in range(0, len(padded) - WINDOW + 1, STEP):
        yield padded[start : start + WINDOW]


def shots_of(chances: Sequence[float] | NDArray[np.float32]) -> list[Span]:
    """Shots as published: from the first frame behind a transition to the first frame in the next one."""
    crossed = np.asarray(chances) > THRESHOLD
    edges = np.flatnonzero(np.diff(crossed.astype(np.int8))) + 1  # first frame of each run but the first
    bounds = [0, *edges.tolist(), len(crossed)]
    quiet = [(first, after) for first, after in pairwise(bounds) if not crossed[first]]
    shots = [(first, min(after + 1, len(crossed))) for first, after in quiet]
    return shots or [(0, len(crossed))]
