"""What training is really fed, as pictures: a contact sheet per bucket.

A line is one sample: first, middle and last frame as decoded from the video, cropped and resized for the bucket, and
beside them the same frames decoded from the stored latents. They are read back through the store, so a picture shows
what a training step would get, and not what the encoder meant to write.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from components.artifacts import StagePaths, write_json
from components.data.buckets import Bucket
from components.data.clips import Clip
from components.data.latents import Family, LatentManifest, LatentStore
from components.data.mirror import MIRRORED, VARIANTS, mirrored
from components.data.outcomes import Limits
from components.data.pool import run_pool
from components.data.windows import Frames, WindowRequest, Windows, read_windows
from components.params import runtime_of
from models.autoencoders import load_autoencoder
from models.autoencoders.codec import VideoCodec

LINES = 6  # samples per bucket
SIDE = 192  # pixels of a frame's longer side, at most
GAP, BREAK = 2, 8  # pixels between frames, and between originals and what was decoded
INDEX = "pictures.json"
Image = NDArray[np.uint8]


@dataclass(frozen=True)
class Line:
    """One sample. frames: (T, H, W, 3) of the window, decoded: (T, H, W, 3) from its latent."""

    clip_id: str
    window: int
    variant: str
    frames: Frames
    decoded: Frames

    @property
    def psnr(self) -> float:
        """Of the decoded latents against the frames, in dB."""
        error = float(np.square(self.frames.astype(np.float64) - self.decoded.astype(np.float64)).mean())
        return 10 * float(np.log10(255**2 / max(error, 1e-2)))


def write_pictures(manifest: LatentManifest, clips: Sequence[Clip], paths: StagePaths, folder: Path) -> None:
    """A PNG per bucket in `folder`, and `pictures.json`, which says what is seen on it."""
    index = []
    if manifest.samples.rows:
        by_key = {int(clip.clip_id, 16): clip for clip in clips}
        codec = load_autoencoder(paths.input("autoencoder")).eval()
        store = LatentStore(paths.output("latents"), root=paths.root)
        limits = runtime_of(paths.root).limits("encode")
        for family in manifest.families:
            lines = _lines(family, store, by_key, codec, limits)
            if not lines:
                continue
            name = f"{family.resolution}-{family.key}.png"
            write_png(folder / name, contact_sheet(lines))
            index.append({"file": name, "bucket": family.name, "lines": [_described(line) for line in lines]})
    write_json(folder / INDEX, index)


def _described(line: Line) -> dict[str, str | int | float]:
    return {
        "clip_id": line.clip_id,
        "window": line.window,
        "variant": line.variant,
        "psnr": round(line.psnr, 2),
    }


def _lines(
    family: Family, store: LatentStore, clips: Mapping[int, Clip], codec: VideoCodec, limits: Limits
) -> list[Line]:
    """Samples spread evenly over the rows of a family; a clip that cannot be read again has no line."""
    rows = store.rows(family)
    chosen = np.unique(np.linspace(0, len(rows) - 1, LINES).round().astype(np.int64))
    bucket = Bucket(family.resolution, family.frames, family.aspect, family.height, family.width)
    requests = [
        WindowRequest(clips[int(rows.keys[row])], bucket, store.manifest.fps, first=int(rows.windows[row]))
        for row in chosen
    ]
    read = run_pool(read_windows, requests, limits, title=f"pictures {family.key}")
    latents, *_ = store.read(family, chosen.tolist())
    lines = []
    for row, latent, result in zip(chosen.tolist(), latents, read, strict=True):
        if result.value is not None:
            variant = VARIANTS[int(rows.variants[row])]
            lines.append(
                Line(
                    clip_id=rows.clip_ids([row])[0],
                    window=int(rows.windows[row]),
                    variant=variant,
                    frames=_as_seen(result.value, variant),
                    decoded=_decoded(codec, latent, family.frames),
                )
            )
    return lines


def _as_seen(windows: Windows, variant: str) -> Frames:
    return mirrored(windows.frames[0]) if variant == MIRRORED else windows.frames[0]


@torch.inference_mode()
def _decoded(codec: VideoCodec, latent: torch.Tensor, frames: int) -> Frames:
    """latent: (C, t, h, w) -> uint8 (T, H, W, 3)."""
    pixels = codec.decode(latent[None], frames)[0].permute(1, 2, 3, 0)
    return pixels.add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8).numpy()


def contact_sheet(lines: Sequence[Line]) -> Image:
    """One line per sample: first, middle and last frame, then the same ones from its latent. (H, W, 3)."""
    moments = sorted({0, lines[0].frames.shape[0] // 2, lines[0].frames.shape[0] - 1})
    rows = []
    for line in lines:
        halves = [_strip([_small(of[moment]) for moment in moments]) for of in (line.frames, line.decoded)]
        rows.append(_joined(halves, BREAK, axis=1))
    return _joined(rows, GAP, axis=0)


def _strip(frames: Sequence[Image]) -> Image:
    return _joined(frames, GAP, axis=1)


def _joined(parts: Sequence[Image], gap: int, *, axis: int) -> Image:
    """Parts beside or below each other, with white between them."""
    shape = list(parts[0].shape)
    shape[axis] = gap
    white = np.full(shape, 255, dtype=np.uint8)
    pieces = [piece for part in parts for piece in (part, white)][:-1]
    return np.concatenate(pieces, axis=axis)


def _small(frame: Image) -> Image:
    """A frame whose longer side is at most `SIDE`."""
    from PIL import Image as Pictures

    height, width = frame.shape[:2]
    scale = min(1.0, SIDE / max(height, width))
    if scale == 1.0:
        return frame
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(Pictures.fromarray(frame).resize(size, Pictures.Resampling.BOX))


def write_png(path: Path, image: Image) -> None:
    """Equal pixels give equal bytes: no time and no name is in the file."""
    from PIL import Image as Pictures

    Pictures.fromarray(image).save(path, format="PNG", optimize=False, compress_level=6)
