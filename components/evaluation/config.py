"""Parameters of the offline extractor and of the evaluation."""

from typing import Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from components.config import Section
from components.data.config import PromptScores

FvdConvention = Literal["stylegan-v", "common-metrics", "tensorflow", "cd-fvd-i3d", "cd-fvd-videomae"]


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
    min_damage_times: NonNegativeFloat = 5.0  # distance of damaged clips over that of real ones
    min_caption_margin: dict[str, float] = Field(default_factory=dict)  # cosine lost by one wrong word


class SamplerConfig(Section):
    steps: PositiveInt
    guidance: NonNegativeFloat


class WeightsConfig(Section):
    """A published network by path. With `sha256` another file is refused; the digest is in the identity anyway."""

    path: str
    sha256: str | None = None


class LpipsConfig(Section):
    """LPIPS of reconstructions: torchvision's checkpoint of the network, and the heads published with LPIPS 0.1."""

    network: Literal["alex", "vgg"]
    backbone: str
    heads: str


class PublishedConfig(Section):
    """Metrics under their published conventions, each measured where its weights are named."""

    # per convention; KVD and FVD at infinity come with it
    fvd: dict[FvdConvention, WeightsConfig] = Field(default_factory=dict)
    inception_score: WeightsConfig | None = None  # C3D of UCF-101, as TorchScript
    splits: PositiveInt = 10  # of the Inception Score
    fid: WeightsConfig | None = None  # Inception v3 of FID, as TorchScript
    clipsim: str | None = None  # folder of a CLIP model; ViT-B/32 as published
    lpips: LpipsConfig | None = None
    batch: PositiveInt = 16  # clips in a network at a time


class VbenchConfig(Section):
    """VBench's own code, in its own environment (`reelforge vbench install`).

    `standard` makes the videos of VBench's prompts, and gives a Total where all dimensions are there; `own` scores the
    videos of this evaluation by the dimensions that need no such prompts.
    """

    mode: Literal["own", "standard"]
    dimensions: tuple[str, ...] | None = None  # None: all that the mode allows
    weights: str = "weights/vbench"
    device: Literal["cpu", "cuda"] = "cpu"
    batch: PositiveInt = 8  # videos of the standard run made at a time


class EvaluateConfig(Section):
    """The evaluation protocol; its digest is part of every score's identity."""

    seed: int
    samples: int = Field(
        ge=2
    )  # generated clips, at most the number of validation clips; one has no covariance
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
    scores: PromptScores = PromptScores()  # said at the end of every prompt
    published: PublishedConfig = PublishedConfig()
    vbench: VbenchConfig | None = None
