"""The networks of the published metrics as functions from clips to arrays, and what identifies them.

Clips are uint8 (N, T, H, W, 3). TorchScript files run as they are; they are programs, and are only opened when their
sha256 is given, or when a person has put them there by path.
"""

import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from einops import rearrange
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from components.artifacts import sha256_of
from components.errors import UserError
from components.evaluation.published.conventions import Convention
from components.evaluation.published.i3d import I3D
from components.evaluation.published.videomae import VideoMae
from components.progress import progress

log = logging.getLogger(__name__)
Frames = NDArray[np.uint8]
SIZE = 224
LEVELS = 255.0


@dataclass(frozen=True)
class Weights:
    """A file of weights. `sha256`: what it must be, or None to take it as it is."""

    path: Path
    sha256: str | None = None

    def digest(self) -> str:
        """Raises `UserError` where the file is missing or is another one."""
        if not self.path.is_file():
            raise UserError(f"{self.path} is missing; the metric needs its published weights there")
        found = sha256_of(self.path)
        if self.sha256 and found != self.sha256:
            raise UserError(f"{self.path} has sha256 {found[:12]}, not {self.sha256[:12]}; fetch it again")
        return found


@dataclass(frozen=True)
class FeatureNetwork:
    """`features` maps prepared clips to (B, D); `identity` is everything that decides them."""

    run: Callable[[Tensor], Tensor]
    prepare: Callable[[Frames], Tensor]
    identity: dict[str, Any]
    device: torch.device

    @torch.inference_mode()
    def features(self, clips: Frames, *, batch: int, title: str) -> NDArray[np.float32]:
        """uint8 (N, T, H, W, 3) -> (N, D). Raises `ValueError` where the network gives no row per clip."""
        parts = []
        with progress(title, len(clips)) as advance:
            for start in range(0, len(clips), batch):
                prepared = self.prepare(clips[start : start + batch]).to(self.device)
                rows = self.run(prepared).float().cpu()
                if rows.ndim != 2 or len(rows) != len(prepared):
                    raise ValueError(
                        f"the network gave {tuple(rows.shape)} for {len(prepared)} clips, not one row each"
                    )
                parts.append(rows.numpy())
                advance(len(prepared))
        return np.concatenate(parts)


def fvd_network(name: str, convention: Convention, weights: Weights, device: torch.device) -> FeatureNetwork:
    """The feature network of an FVD convention. Raises `UserError` for weights that are not its own."""
    digest = weights.digest()
    try:
        run = _LOADERS[convention.network](weights.path, convention, device)
    except (ValueError, RuntimeError) as error:
        raise UserError(f"{weights.path}: {error}") from None
    identity = {"convention": name, "weights_sha256": digest, **asdict(convention)}
    if convention.resize == "cover":
        identity["longer_side"] = "rounded up"  # it was rounded down once, which gave other scores
    return FeatureNetwork(run, lambda clips: prepared(clips, convention), identity, device)


def scripted_network(weights: Weights, device: torch.device, **options: Any) -> FeatureNetwork:
    """A TorchScript network that takes clips (B, 3, T, H, W) in 0..255 and resizes them itself, as C3D does."""
    digest = weights.digest()
    script = _script(weights.path, device)
    identity = {"weights_sha256": digest, "resize": "network", **options}
    return FeatureNetwork(lambda x: script(x, **options), channels_first, identity, device)


def prepared(clips: Frames, convention: Convention) -> Tensor:
    """uint8 (N, T, H, W, 3) -> (N, 3, T, h, w) as the convention wants it.

    Bilinear without antialiasing, frame by frame, as all of them have it.
    """
    pixels = channels_first(clips)
    if convention.resize != "network":
        images = rearrange(pixels, "n c t h w -> (n t) c h w")
        images = stretched(images) if convention.resize == "stretch" else covered(images)
        pixels = rearrange(images, "(n t) c h w -> n c t h w", n=len(clips))
    low, high = convention.values
    return pixels / LEVELS * (high - low) + low


def channels_first(clips: Frames) -> Tensor:
    """uint8 (N, T, H, W, 3) -> float32 (N, 3, T, H, W) in 0..255."""
    return torch.from_numpy(np.ascontiguousarray(clips)).permute(0, 4, 1, 2, 3).float()


def stretched(images: Tensor) -> Tensor:
    """(N, 3, H, W) -> (N, 3, 224, 224), whatever the aspect."""
    return functional.interpolate(images, (SIZE, SIZE), mode="bilinear", align_corners=False)


def covered(images: Tensor) -> Tensor:
    """(N, 3, H, W) -> (N, 3, 224, 224): the shorter side to 224, the longer rounded up, and the middle of it."""
    height, width = images.shape[-2:]
    scale = SIZE / min(height, width)
    shape = (SIZE, ceil(width * scale)) if height < width else (ceil(height * scale), SIZE)
    resized = functional.interpolate(images, shape, mode="bilinear", align_corners=False)
    top, left = (shape[0] - SIZE) // 2, (shape[1] - SIZE) // 2
    return resized[..., top : top + SIZE, left : left + SIZE]


def _script(path: Path, device: torch.device) -> Any:
    try:
        return torch.jit.load(str(path), map_location=device).eval()  # type: ignore[no-untyped-call]
    except RuntimeError as error:
        raise UserError(f"{path} is no TorchScript file ({str(error).splitlines()[0]})") from None


def _scripted_i3d(path: Path, convention: Convention, device: torch.device) -> Callable[[Tensor], Tensor]:
    own = convention.resize == "network"  # then it wants 0..255 and does the rest itself
    script = _script(path, device)
    return lambda clips: script(clips, rescale=own, resize=own, return_features=True)


def _i3d(path: Path, _convention: Convention, device: torch.device) -> Callable[[Tensor], Tensor]:
    return I3D.from_file(path).to(device)


def _videomae(path: Path, _convention: Convention, device: torch.device) -> Callable[[Tensor], Tensor]:
    return VideoMae.from_file(path).to(device)


_LOADERS = {"torchscript": _scripted_i3d, "i3d": _i3d, "videomae": _videomae}
