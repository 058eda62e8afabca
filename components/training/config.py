"""Parameters that every training stage has."""

from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from components.config import Section
from components.runtime import Precision


class OptimizerConfig(Section):
    """AdamW, or Adafactor: without a momentum where the first of `betas` is 0; `eps` and the second are not used."""

    name: Literal["adamw", "adafactor"] = "adamw"
    lr: PositiveFloat
    betas: tuple[float, float] = (0.9, 0.999)
    eps: PositiveFloat = 1e-8
    weight_decay: NonNegativeFloat = 0.0
    schedule: Literal["constant", "cosine"] = "constant"
    warmup_steps: NonNegativeInt = 0  # optimizer steps
    clip: PositiveFloat = 1.0  # gradient norm


class SentinelConfig(Section):
    """What counts as a broken step, and how often a run may go back from one (see `sentinel`)."""

    # times the usual loss of its kind; a gradient may be four times that. null: only what is not finite is refused
    spike: Annotated[float, Field(gt=1)] | None = 2.5
    window: int = Field(default=256, ge=32)  # values of its kind that a value is judged by
    # broken steps so close together distrust the state: the run goes back
    persists: int = Field(default=3, ge=1)
    skip_steps: NonNegativeInt = 100  # left out before the first of those; doubles when it happens again
    retries: NonNegativeInt = 10  # broken steps among `retry_steps`; 0 stops at the first one
    retry_steps: PositiveInt = 1000


class ValidationConfig(Section):
    """The loss on held-out samples while a run goes on, on the averaged weights. Decides only under `use: best`."""

    steps: NonNegativeInt = 0  # between two looks; 0 never looks
    samples: PositiveInt = 64  # of each bucket
    times: PositiveInt = 10  # noise levels of each
    seed: int = 1  # of the noise


class PreviewConfig(Section):
    """Pictures or videos made while a run goes on, with the averaged weights. Changes nothing in the result."""

    steps: NonNegativeInt = 0  # between two looks; 0 makes none
    prompts: tuple[str, ...] = ("a video",)
    height: PositiveInt | None = None  # null, here and below: as the largest bucket
    width: PositiveInt | None = None
    frames: PositiveInt | None = None  # 1 makes pictures
    sampling_steps: PositiveInt = 30
    guidance: PositiveFloat = 7.0
    seed: int = 1


Decay = Annotated[float, Field(ge=0, lt=1)]


class LoopConfig(Section):
    """What every training stage has; stages inherit it. `steps` are optimizer steps."""

    steps: PositiveInt
    seed: int
    optimizer: OptimizerConfig
    precision: Precision = "auto"
    zero_stage: int = Field(default=0, ge=0, le=3)
    # batches of an optimizer step, shared equally by the processes, so that their number changes no result; null: each
    # process has `accumulation` of its own, and another number of them is another result
    step_batches: PositiveInt | None = None
    accumulation: PositiveInt = 1
    activation_checkpointing: bool = False
    sequence_parallel: PositiveInt = 1  # processes that share the tokens of a clip
    compile: Literal["none", "blocks"] = "none"  # by torch.compile: pays back after some hundred steps
    fp8: bool = False  # in layers whose shapes allow it; needs Transformer Engine
    ema: Decay | Annotated[tuple[Decay, ...], Field(min_length=1)] = 0.99  # of several, the first is exported
    start_weights: str | None = None  # a checkpoint or a file of weights: those alone, at step 0
    log_steps: PositiveInt = 10
    checkpoint_steps: PositiveInt = 50
    keep_last_n: PositiveInt = 2  # checkpoints, besides the best
    use: Literal["last", "best"] = (
        "last"  # the averages that are exported: of the last step, or of the best look
    )
    sentinel: SentinelConfig = SentinelConfig()
    validation: ValidationConfig = ValidationConfig()
    preview: PreviewConfig = PreviewConfig()

    @model_validator(mode="after")
    def _one_of_the_two_is_given(self) -> Self:
        if self.step_batches is not None and self.accumulation != 1:
            raise ValueError("accumulation follows from step_batches and the processes; give one of the two")
        return self

    @model_validator(mode="after")
    def _matrices_are_whole(self) -> Self:
        if self.optimizer.name == "adafactor" and self.zero_stage > 0:
            raise ValueError(
                f"zero_stage {self.zero_stage} cuts matrices into runs, of which Adafactor's rows and columns cannot be"
                " taken; set zero_stage to 0, or optimizer.name to adamw"
            )
        return self

    @property
    def decays(self) -> tuple[float, ...]:
        """The decays of the averages."""
        return self.ema if isinstance(self.ema, tuple) else (self.ema,)


class LaunchConfig(Section):
    """Who starts the processes of a training stage. Part of `runtime`, as results do not depend on it."""

    kind: Literal["local", "torchrun", "ray"] = "local"  # local: in the stage's own process
    nodes: PositiveInt = 1
    processes: PositiveInt | None = None  # on each node; null: one for each GPU
    address: str | None = (
        None  # torchrun: HOST:PORT where nodes meet; ray: of the cluster, null starts one here
    )
    restarts: NonNegativeInt = 3  # in a row, without a new checkpoint between them
    stop_seconds: PositiveFloat = 120  # that a process which is asked to stop gets to write its checkpoint
