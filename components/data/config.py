"""Parameters of the data stages. Lengths in seconds, sizes in pixels, shares in 0..1."""

from enum import StrEnum
from typing import Self

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from components.config import Section

Share = float


class FootageConfig(Section):
    """The footage maker: what a clone has to work with before it has videos of its own."""

    seed: int
    files: PositiveInt
    scenes_per_file: PositiveInt
    scene_seconds: tuple[PositiveFloat, PositiveFloat]  # uniform between the two
    fps: PositiveInt
    sizes: tuple[tuple[PositiveInt, PositiveInt], ...]  # (height, width), taken in turn
    static_files: NonNegativeInt  # no object moves: the motion filter must find them
    text_files: NonNegativeInt  # text overlay: the text filter must find them
    truncated_files: NonNegativeInt  # cut off in the middle: ingest must name them
    validation_share: float = Field(ge=0, lt=1)
    held_out_combinations: NonNegativeInt  # (colour, shape, motion) triples that only validation files show


class IngestConfig(Section):
    videos: str  # folder
    validation_share: float = Field(ge=0, lt=1)  # of sources without a split of their own, by hash
    seed: int
    max_unreadable_share: float = Field(ge=0, le=1)


class SplitConfig(Section):
    """Shot detector: HSV difference, adaptive ratio, flash test."""

    analysis_width: PositiveInt
    threshold: PositiveFloat  # mean |dHSV| of neighbouring frames
    adaptive_ratio: PositiveFloat  # times the mean of the neighbours
    adaptive_window: PositiveInt  # frames each side
    flash_ratio: PositiveFloat
    min_seconds: PositiveFloat
    max_seconds: PositiveFloat

    @model_validator(mode="after")
    def _lengths_leave_room(self) -> Self:
        if self.min_seconds >= self.max_seconds:
            raise ValueError(f"min_seconds {self.min_seconds} is not below max_seconds {self.max_seconds}")
        return self


class Scorer(StrEnum):
    """`disable`: not computed; `score-only`: computed, never rejects; `enable`: computed and filtered."""

    DISABLE = "disable"
    ENABLE = "enable"
    SCORE_ONLY = "score-only"


class ScoreConfig(Section):
    frames: PositiveInt  # frames looked at, evenly spaced; motion looks at neighbours
    analysis_width: PositiveInt
    motion: Scorer
    sharpness: Scorer
    text: Scorer
    brightness: Scorer


class FilterConfig(Section):
    """Thresholds over stored scores. A score that was not computed is not filtered."""

    min_motion: NonNegativeFloat  # object motion, share of the width per second
    min_sharpness: NonNegativeFloat
    max_text_share: float = Field(ge=0, le=1)
    min_brightness: float = Field(ge=0, le=1)
    max_brightness: float = Field(ge=0, le=1)
    max_rejected_share: float = Field(ge=0, le=1)


class CaptionConfig(Section):
    source: str  # captions file (CSV, JSONL, Parquet with `path` and `text`), or a folder of sidecars
    fallback: str = Field(min_length=1)  # caption of a clip that has none
    max_words: PositiveInt


class DedupConfig(Section):
    max_cosine: float = Field(gt=0, le=1)  # above it two clips are near-duplicates
    frames: PositiveInt
    thumbnail: PositiveInt  # pixels


class ValidateConfig(Section):
    """Expectations on the finished table."""

    min_clips: PositiveInt
    min_caption_coverage: float = Field(ge=0, le=1)  # share of clips with a caption of their own
    min_motion_mean: NonNegativeFloat


class BucketsConfig(Section):
    """(resolution, frames, aspect) triples. Sizes: area = resolution squared, sides multiples of `multiple`."""

    resolutions: tuple[str, ...]  # published names: "240p", or "32px" for the area of 32x32
    frames: tuple[PositiveInt, ...]
    aspects: tuple[str, ...]  # "height:width"
    multiple: PositiveInt  # pixels; spatial stride of the autoencoder x patch


class EncodeConfig(Section):
    buckets: BucketsConfig
    fps: PositiveInt  # clips are read at this rate
    windows: PositiveInt  # windows of `frames` frames taken per clip, evenly spaced
    batch: PositiveInt
    shard_mb: PositiveInt


class BatchesConfig(Section):
    """Which buckets a training stage draws from: resolution -> frames -> (keep probability, batch)."""

    buckets: dict[str, dict[PositiveInt, tuple[float, PositiveInt]]]
    seed: int
    small_bucket: str = Field(pattern="^(repeat|merge|refuse)$")  # when a bucket cannot fill one batch
