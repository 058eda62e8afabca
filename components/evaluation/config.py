"""Parameters of the offline extractor and of the evaluation."""

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from components.config import Section


class ExtractorConfig(Section):
    """The small video classifier behind `toy_fvd` and attribute accuracy; trained once on procedural clips."""

    seed: int
    clips: PositiveInt
    steps: PositiveInt
    batch: PositiveInt
    lr: PositiveFloat
    widths: tuple[PositiveInt, ...]  # the last one is the feature dimension
    frames: PositiveInt
    size: PositiveInt  # pixels; clips are resized to a square of this side
    held_out_clips: PositiveInt
    min_accuracy: dict[str, float]  # per attribute; the stage fails below


class SamplerConfig(Section):
    steps: PositiveInt
    guidance: NonNegativeFloat


class EvaluateConfig(Section):
    """The evaluation protocol; its digest is part of every score's identity."""

    seed: int
    samples: PositiveInt  # generated clips, at most the number of validation clips
    height: PositiveInt
    width: PositiveInt
    frames: PositiveInt
    fps: PositiveInt
    batch: PositiveInt
    sampler: SamplerConfig
    gallery: PositiveInt  # sample videos kept as MP4 for the report
    reconstruction_clips: PositiveInt
    validation_loss_times: PositiveInt  # equidistant interior times
    negative_prompt: str = Field(default="")
