"""The clips on both sides of every threshold, as small videos: what a person must see to judge a threshold.

The clips are the ones whose score is nearest to it. Each is read in a worker process, so a clip that cannot be
decoded again costs its picture.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np

from components.data.filter import RULES, Rule
from components.data.frames import read_frames
from components.data.pool import RejectedError, run_pool
from components.data.report.data_set import DataSet
from components.data.video import Pixels, VideoFile
from components.page.charts import short
from components.page.media import data_uri
from components.storage import Place

EACH_SIDE = 6
SIDE = 96  # pixels of a thumbnail's shorter side
SECONDS = 2.0
FPS = 8
QUALITY = "30"  # constant rate factor of H.264


@dataclass(frozen=True)
class Thumbnail:
    """One clip: `video` is a data URI, empty where it could not be read."""

    clip_id: str
    value: str
    video: str
    note: str  # other reasons against it, or why there is no picture


@dataclass(frozen=True)
class NearMisses:
    """A threshold, and the clips nearest to it."""

    title: str
    threshold: str
    rejected: list[Thumbnail]
    kept: list[Thumbnail]


@dataclass(frozen=True)
class Order:
    """Work for a process: a stretch of a file."""

    path: Place
    start: float
    end: float


def near_misses(data: DataSet, videos: Place) -> list[NearMisses]:
    """A part per threshold that has clips near it, with the videos inside."""
    chosen = [(rule, *_nearest(data, rule)) for rule in RULES if _is_used(data, rule)]
    rows = sorted({int(row) for _, *sides in chosen for side in sides for row in side})
    pictures = dict(zip(rows, _pictures(data, videos, rows), strict=True))
    return [
        NearMisses(
            title=rule.column.replace("_", " "),
            threshold=f"{rule.threshold} {short(getattr(data.params.filter, rule.threshold))}",
            rejected=[_thumbnail(data, row, rule, *pictures[row]) for row in map(int, out)],
            kept=[_thumbnail(data, row, rule, *pictures[row]) for row in map(int, kept)],
        )
        for rule, out, kept in chosen
        if len(out) or len(kept)
    ]


def _is_used(data: DataSet, rule: Rule) -> bool:
    return data.has(rule.column) and getattr(data.params.filter, rule.threshold) is not None


def _nearest(data: DataSet, rule: Rule) -> tuple[Sequence[int], Sequence[int]]:
    """Rows on the rejected and on the kept side, nearest first; equals in the order of the table."""
    values = data.numbers(rule.column)
    threshold = float(np.float32(getattr(data.params.filter, rule.threshold)))
    distance = threshold - values if rule.bound == "min" else values - threshold
    sides = []
    for rows in (np.flatnonzero(distance > 0), np.flatnonzero(distance <= 0)):
        order = np.argsort(np.abs(distance[rows]), kind="stable")
        sides.append(rows[order[:EACH_SIDE]].tolist())
    return sides[0], sides[1]


def _pictures(data: DataSet, videos: Place, rows: Sequence[int]) -> list[tuple[str, str]]:
    """(data URI, reason that there is none) of each row."""
    if not rows:
        return []
    columns = ("source", "start_seconds", "end_seconds")
    picked = data.table.select(columns).take(rows).to_pylist()
    orders = [Order(videos / row["source"], row["start_seconds"], row["end_seconds"]) for row in picked]
    runtime = data.params.runtime
    results = run_pool(make_video, orders, runtime.limits("report"), title="thumbnails")
    return [(data_uri(result.value), "") if result.value else ("", str(result.reason)) for result in results]


def _thumbnail(data: DataSet, row: int, rule: Rule, video: str, missing: str) -> Thumbnail:
    others = data.table["reasons"][row].as_py() if data.has("reasons") else []
    also = [code.replace("_", " ") for code in others or () if code != rule.reason]
    note = missing.replace("_", " ") or (f"also {', '.join(also)}" if also else "")
    value = short(float(data.table[rule.column][row].as_py()))
    return Thumbnail(data.table["clip_id"][row].as_py(), value, video, note)


def make_video(order: Order) -> bytes:
    """The first seconds of a clip as a small MP4. Raises `RejectedError` with a reason code."""
    if not order.path.exists():
        raise RejectedError("file_missing")
    height, width = _size(order)
    end = min(order.end, order.start + SECONDS)
    return encode(read_frames(order.path, order.start, end, fps=FPS, height=height, width=width))


def _size(order: Order) -> tuple[int, int]:
    """Height and width of the thumbnail: even, in the aspect ratio of the clip as shown."""
    with VideoFile(order.path) as video:
        first = next(iter(video.nearest([order.start], start=order.start, end=order.end)))
        height, width = video.shown_size(first.frame)
    scale = SIDE / min(height, width)
    return 2 * round(height * scale / 2), 2 * round(width * scale / 2)


def encode(frames: Pixels) -> bytes:
    """(T, H, W, 3) RGB as an MP4 that every browser plays."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"crf": QUALITY, "threads": "1"})
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.time_base = Fraction(1, FPS)
        for pixels in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    return buffer.getvalue()
