"""Parameters of the data stages. Lengths in seconds, sizes in pixels, shares in 0..1."""

from enum import StrEnum
from typing import Literal, Self

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
    fade_files: NonNegativeInt = 0  # from black, through black between scenes, to black
    dissolve_files: NonNegativeInt = 0  # scenes that blend into each other
    flash_files: NonNegativeInt = 0  # a camera flash in every scene: no cut
    whip_files: NonNegativeInt = 0  # the camera is torn aside in every scene: no cut
    dark_files: NonNegativeInt = 0  # night: cuts between scenes that are nearly black
    black_files: NonNegativeInt = 0  # black pictures between the scenes, behind hard cuts
    near_duplicate_files: NonNegativeInt = 0  # another file again, encoded anew and a little brighter
    duplicate_files: NonNegativeInt = 0  # another file again, byte by byte
    corrupted_files: NonNegativeInt = 0  # bytes in the middle overwritten
    transition_seconds: PositiveFloat = 0.5  # of a fade, a dissolve, a whip pan
    validation_share: float = Field(ge=0, lt=1)
    held_out_combinations: NonNegativeInt  # (colour, shape, motion) triples that only validation files show


class IngestConfig(Section):
    videos: str  # folder
    manifest: str | None = None  # file or folder of files that list what is used, relative to `videos`
    images: bool = False  # pictures in the folder too, as clips of one frame; a manifest may name them anyway
    validation_share: float = Field(ge=0, lt=1)  # of sources without a split of their own, by hash
    seed: int
    max_unreadable_share: float = Field(ge=0, le=1)


class Detector(StrEnum):
    """What finds the shots: `ours` needs nothing, `pyscenedetect` its package, `transnetv2` weights."""

    OURS = "ours"
    PYSCENEDETECT = "pyscenedetect"
    TRANSNETV2 = "transnetv2"


class SplitConfig(Section):
    """Shot detector. `ours`: HSV difference, adaptive ratio, flash test, and a ramp test for transitions."""

    detector: Detector = Detector.OURS
    weights: str | None = None  # file with the published weights of TransNetV2
    gradual: bool = True  # `ours`: find dissolves and fades too; their frames are in no clip
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

    @model_validator(mode="after")
    def _weights_are_named(self) -> Self:
        if self.detector is Detector.TRANSNETV2 and not self.weights:
            raise ValueError("detector `transnetv2` needs `weights`: the file of its published weights")
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
    text_width: PositiveInt | None = None  # pixels at which text is looked for; null is `analysis_width`
    text_model: str | None = None  # ONNX file of a DB text detector, as PP-OCR's; null needs no weights
    camera: Scorer = Scorer.DISABLE  # pan, tilt, zoom or static, as a label
    black: Scorer = Scorer.DISABLE  # share of black frames
    frozen: Scorer = Scorer.DISABLE  # share of frames that repeat the one before
    aesthetic: Scorer = Scorer.DISABLE  # CLIP ViT-L/14 with the LAION head
    match: Scorer = Scorer.DISABLE  # CLIP similarity of the middle frame and the caption
    clip_weights: str | None = None  # folder of a CLIP model of the transformers library
    aesthetic_weights: str | None = None  # file of the LAION head
    captions: str | None = None  # what `match` compares with: as `caption.source`

    @model_validator(mode="after")
    def _weights_are_named(self) -> Self:
        needs = (
            ("aesthetic", self.aesthetic, ("clip_weights", "aesthetic_weights")),
            ("match", self.match, ("clip_weights", "captions")),
        )
        for name, mode, paths in needs:
            missing = [path for path in paths if mode is not Scorer.DISABLE and not getattr(self, path)]
            if missing:
                raise ValueError(f"scorer `{name}` is switched on and needs {' and '.join(missing)}")
        return self


class SelectionConfig(Section):
    """Thresholds beside those of the filter, for clips that one training stage is to see; null: no such threshold."""

    min_motion: NonNegativeFloat | None = None
    min_sharpness: NonNegativeFloat | None = None
    max_text_share: float | None = Field(default=None, ge=0, le=1)
    min_brightness: float | None = Field(default=None, ge=0, le=1)
    max_brightness: float | None = Field(default=None, ge=0, le=1)
    max_motion: PositiveFloat | None = None
    max_black_share: float | None = Field(default=None, ge=0, le=1)
    max_frozen_share: float | None = Field(default=None, ge=0, le=1)
    min_aesthetic: float | None = None
    min_match: float | None = None
    min_side: PositiveInt | None = None


class FilterConfig(Section):
    """Thresholds over stored scores. A score that was not computed is not filtered."""

    min_motion: NonNegativeFloat  # object motion, share of the width per second
    min_sharpness: NonNegativeFloat
    max_text_share: float = Field(ge=0, le=1)
    min_brightness: float = Field(ge=0, le=1)
    max_brightness: float = Field(ge=0, le=1)
    max_motion: PositiveFloat | None = None  # null: no such threshold, here and below
    max_black_share: float | None = Field(default=None, ge=0, le=1)
    max_frozen_share: float | None = Field(default=None, ge=0, le=1)
    min_aesthetic: float | None = None  # LAION scale: 4.5 fair, 5.5 good, 6.5 high
    min_match: float | None = None  # cosine of frame and caption
    min_side: PositiveInt | None = None  # pixels of the shorter side
    # named subsets of what passes, in the column `selections`
    selections: dict[str, SelectionConfig] = Field(default_factory=dict)
    max_rejected_share: float = Field(ge=0, le=1)


class CaptionSuffix(StrEnum):
    """Scores that may be put at the end of a caption, in the order of the published format."""

    AESTHETIC = "aesthetic"
    MOTION = "motion"
    CAMERA = "camera"


CameraMotion = Literal["pan right", "pan left", "tilt up", "tilt down", "zoom in", "zoom out", "static"]


class PromptScores(Section):
    """What a prompt asks for in the words of `suffixes`, of a model that has learned from them; null: not said."""

    aesthetic: float | None = None  # 6 and more is good, 7 and more is rare
    motion: NonNegativeFloat | None = None  # per cent of the width per second; 5 is usual, less is smoother
    camera: CameraMotion | None = None

    @property
    def by_name(self) -> dict[CaptionSuffix, float | str]:
        """Those that are said."""
        values = {name: getattr(self, name.value) for name in CaptionSuffix}
        return {name: value for name, value in values.items() if value is not None}


class VisionConfig(Section):
    """A vision-language model that writes captions; `weights` names a folder, else an endpoint is asked."""

    model: str = ""  # its name at `runtime.caption_endpoint`
    weights: str | None = None  # folder of a model that transformers can load
    prompt: str = "Describe what is seen in this video and how it moves, in one paragraph."
    frames: PositiveInt = 4  # evenly spaced
    side: PositiveInt = 448  # pixels of a frame's shorter side
    max_tokens: PositiveInt = 200
    max_requests: NonNegativeInt | None = None  # budget of one run, retries included; null is no limit
    max_failed_share: float = Field(default=0.1, ge=0, le=1)  # of the clips asked about

    @model_validator(mode="after")
    def _a_model_is_named(self) -> Self:
        if not self.weights and not self.model:
            raise ValueError("name a `model` of the endpoint, or a folder of `weights`")
        return self


class CaptionConfig(Section):
    source: str  # captions file (CSV, JSONL, Parquet with `path` and `text`), or a folder of sidecars
    fallback: str = Field(min_length=1)  # caption of a clip that has none
    max_words: PositiveInt
    lower_case: bool = False
    language: str | None = Field(default=None, pattern="^[a-z]{2}$")  # ISO 639-1; others are left out
    suffixes: tuple[CaptionSuffix, ...] = ()  # scores in words at the end of a second form of every caption
    suffix_share: float = Field(default=1.0, ge=0, le=1)  # of the clips whose caption says a score, for each
    vision: VisionConfig | None = None  # writes the captions of clips that have none of their own


class DedupConfig(Section):
    max_cosine: float = Field(gt=0, le=1)  # above it two clips are near-duplicates
    frames: PositiveInt
    thumbnail: PositiveInt  # pixels
    exact_clips: PositiveInt = 20_000  # up to so many are all compared with all; above, clusters spare work
    cluster_clips: PositiveInt = 2_000  # in a cluster, on average


class ValidateConfig(Section):
    """Expectations on the finished table."""

    min_clips: PositiveInt
    min_caption_coverage: float = Field(ge=0, le=1)  # share of clips with a caption of their own
    min_motion_mean: NonNegativeFloat
    previous: str = "data_baseline"  # folder of the summary that this version is compared with
    # population stability index; 0.1 is little, 0.25 much
    max_drift: float | None = Field(default=None, gt=0)


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
    shard_mb: int = Field(gt=0, le=256)
    flips: bool = (
        False  # mirrored windows too, as samples of their own; see `mirror` for captions that forbid them
    )
    precompute: bool = True  # false: nothing is encoded; training does it (`batches.source: videos`)
    scored_captions: bool = False  # embeddings of the captions with scores too: `batches.captions: scored`


Keep = Share | tuple[Share, Share]  # p, or (p, p_time) as published


class BatchesConfig(Section):
    """Which buckets a training stage draws from: resolution -> frames -> (keep probability, batch).

    A pair (p, p_time) considers the length with probability p_time, and then keeps the sample with p.
    """

    buckets: dict[str, dict[PositiveInt, tuple[Keep, PositiveInt]]]
    seed: int
    small_bucket: str = Field(pattern="^(repeat|merge|refuse)$")  # when a bucket cannot fill one batch
    source: Literal["latents", "videos"] = (
        "latents"  # videos are decoded, cropped and encoded as they are needed
    )
    selection: str | None = None  # of `filter.selections`: the clips to learn from; null is all
    captions: Literal["plain", "scored"] = "plain"  # scored: those that end with `caption.suffixes`


def keep_pair(keep: Keep) -> tuple[float, float]:
    """(p, p_time) of a keep probability."""
    return keep if isinstance(keep, tuple) else (keep, 1.0)
