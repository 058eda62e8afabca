"""What the encode stages store: latents of every clip in every bucket that it serves, and the captions."""

import math
from collections import Counter

import numpy as np
import pyarrow as pa

from components.data.buckets import Bucket, assign
from components.data.config import EncodeConfig
from components.data.encode_plan import VALUE_BYTES
from components.data.forecast import geometries
from components.data.windows import window_starts
from components.planning.networks import Networks
from components.planning.parts import LatentsPlan
from components.stage import Stage


def rows_of(clips: pa.Table, encode: EncodeConfig) -> Counter[Bucket]:
    """Latents that each bucket gets."""
    seen = geometries(clips, encode.fps)
    shapes = np.stack([seen.heights, seen.widths, seen.frames])
    rows: Counter[Bucket] = Counter()
    values, counts = np.unique(shapes, axis=1, return_counts=True)
    for (height, width, frames), number in zip(values.T.tolist(), counts.tolist(), strict=True):
        for bucket in assign(height, width, frames, encode.buckets).buckets:
            rows[bucket] += number * len(window_starts(frames, bucket.frames, encode.windows))
    return rows


def plan_latents(stage: Stage, networks: Networks, clips: pa.Table, source: str) -> LatentsPlan:
    """What an encode stage stores of these clips, each with a caption of its own, or two."""
    encode: EncodeConfig = networks.config(stage)
    geometry = networks.codec(stage.inputs["autoencoder"]).geometry
    rows = rows_of(clips, encode)
    latents = sum(
        number * math.prod(geometry.latent_shape(bucket.frames, bucket.height, bucket.width))
        for bucket, number in rows.items()
    )
    width, tokens = networks.text
    values = latents + (1 + encode.scored_captions) * len(clips) * width * tokens
    return LatentsPlan(stage.name, len(clips), sum(rows.values()), VALUE_BYTES * values, source)
