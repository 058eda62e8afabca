"""What a plan is made of, as plain values: for a table, for JSON, and for the comparison after a run."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from components.planning.clock import accumulation_on, readers_on, refusal
from components.planning.devices import Cluster
from components.planning.memory import Memory, Setting, checkpoint_bytes
from components.training.config import LoopConfig

HOUR = 3600.0


@dataclass(frozen=True)
class BucketPlan:
    """One shape of batch. `flops`: of a batch, forward and backward; `seconds`: of it at the assumed MFU."""

    name: str  # resolution x frames
    height: int
    width: int
    frames: int
    batch: int
    tokens: int  # of a batch; latent places for an autoencoder
    share: float  # of the stage's batches
    flops: int
    recomputed: int  # FLOPs of activation checkpointing, besides
    seconds: float
    memory: Memory
    fits: bool
    ways_out: tuple[str, ...] = ()  # single changes that make it fit


@dataclass(frozen=True)
class Choice:
    """The memory of a stage's fullest bucket under another setting."""

    zero_stage: int
    recompute: bool
    bytes: int
    fits: bool


@dataclass(frozen=True)
class DataPlan:
    """Where the shares of the buckets come from, and what becomes of the clips."""

    source: str  # "clip table", "assumed" or "recipe"
    clips: int = 0
    used: int = 0
    batches: float = 0.0  # of an epoch
    dropped: int = 0
    repeated: int = 0
    refused: tuple[str, ...] = ()
    unused: Mapping[str, int] = field(default_factory=dict)  # reason -> clips
    empty: tuple[str, ...] = ()  # buckets that are asked for and get nothing
    not_encoded: tuple[str, ...] = ()


class Planned(Protocol):
    """A training stage that can be asked about its batches."""

    @property
    def name(self) -> str: ...
    @property
    def config(self) -> LoopConfig: ...
    @property
    def setting(self) -> Setting: ...


@dataclass(frozen=True)
class StagePlan:
    """One training stage."""

    name: str
    cluster: Cluster
    parameters: int  # trained ones
    frozen: int
    steps: int
    accumulation: int
    readers: int  # batches that all GPUs have at a time
    zero_stage: int
    recompute: bool
    precision: str
    buckets: tuple[BucketPlan, ...]
    choices: tuple[Choice, ...]
    data: DataPlan
    batch_seconds: float  # mean of the batches
    step_seconds: float  # all GPUs wait for the slowest of their batches
    checkpoint_bytes: int
    checkpoints: int  # that are kept
    refusal: str = ""  # why it will not start on these GPUs

    @classmethod
    def of(
        cls,
        work: Planned,
        cluster: Cluster,
        *,
        buckets: tuple[BucketPlan, ...],
        choices: tuple[Choice, ...],
        data: DataPlan,
        mean_seconds: float,
        slowest_seconds: float,
    ) -> "StagePlan":
        """The plan of a stage whose batches take so long: in the mean, and the slowest of those of all GPUs."""
        config, setting = work.config, work.setting
        accumulation = accumulation_on(config, cluster.count)
        return cls(
            name=work.name,
            cluster=cluster,
            parameters=setting.trained,
            frozen=setting.frozen,
            steps=config.steps,
            accumulation=accumulation,
            readers=readers_on(config, cluster.count),
            refusal=refusal(config, cluster.count),
            zero_stage=setting.zero_stage,
            recompute=setting.recompute,
            precision="bf16" if setting.bf16 else "fp32",
            buckets=buckets,
            choices=choices,
            data=data,
            batch_seconds=mean_seconds * accumulation,
            step_seconds=slowest_seconds * accumulation,
            checkpoint_bytes=checkpoint_bytes(setting),
            checkpoints=min(config.keep_last_n + 1, -(-config.steps // config.checkpoint_steps)),
        )

    @property
    def step_flops(self) -> float:
        """Mean model FLOPs of a step of all GPUs."""
        shares = sum(bucket.share for bucket in self.buckets)
        mean = sum(bucket.share * bucket.flops for bucket in self.buckets) / shares if shares else 0.0
        return mean * self.accumulation * self.readers

    @property
    def hours(self) -> float:
        """On the clock."""
        return self.steps * self.step_seconds / HOUR

    @property
    def gpu_hours(self) -> float:
        return self.hours * self.cluster.count

    @property
    def money(self) -> float:
        return self.gpu_hours * self.cluster.price

    @property
    def fits(self) -> bool:
        return all(bucket.fits for bucket in self.buckets)

    @property
    def fullest(self) -> BucketPlan:
        """The bucket that needs the most memory."""
        return max(self.buckets, key=lambda bucket: bucket.memory.total)


@dataclass(frozen=True)
class LatentsPlan:
    """What an encode stage stores. `rows`: latents; `bytes` with the captions."""

    stage: str
    clips: int
    rows: int
    bytes: int
    source: str


@dataclass(frozen=True)
class Comparison:
    """A published cost beside the same by our arithmetic."""

    what: str
    published_gpu_hours: float
    gpu_hours: float
    training_flops: float
    encoder_flops: float  # of encoders that ran beside the training
    mfu: float  # that is assumed here
    measured: str  # where that comes from
    implied_mfu: float  # that makes the published hours of these FLOPs, waiting included

    @property
    def error(self) -> float:
        """Ours over the published, less one."""
        return self.gpu_hours / self.published_gpu_hours - 1


@dataclass(frozen=True)
class Plan:
    """A whole recipe."""

    recipe: str
    stages: tuple[StagePlan, ...]
    taken: tuple[str, ...]  # stages that take published weights and train nothing
    latents: tuple[LatentsPlan, ...]
    assumptions: tuple[str, ...]
    comparison: Comparison | None = None

    @property
    def gpu_hours(self) -> float:
        return sum(stage.gpu_hours for stage in self.stages)

    @property
    def money(self) -> float:
        return sum(stage.money for stage in self.stages)

    @property
    def verdicts(self) -> list[str]:
        """What has to change before a run starts, most important first; empty where nothing has."""
        lines = [f"does not fit: {line}" for stage in self.stages for line in _misfits(stage)]
        for stage in self.stages:
            if stage.refusal:
                lines.append(f"refused: {stage.name}: {stage.refusal}")
            if stage.data.refused:
                lines.append(
                    f"refused: {stage.name} has buckets below one batch: {', '.join(stage.data.refused)}"
                )
            if stage.data.not_encoded:
                lines.append(
                    f"no latents: {stage.name} asks for {', '.join(stage.data.not_encoded)}, `encode` does not"
                )
        return lines

    def as_dict(self) -> dict[str, Any]:
        """For JSON, with the derived numbers."""
        values = asdict(self)
        for value, stage in zip(values["stages"], self.stages, strict=True):
            value |= {name: getattr(stage, name) for name in DERIVED}
            for row, bucket in zip(value["buckets"], stage.buckets, strict=True):
                row["memory"] |= {"states": bucket.memory.states, "total": bucket.memory.total}
        if self.comparison:
            values["comparison"]["error"] = self.comparison.error
        return {
            **values,
            "gpu_hours": self.gpu_hours,
            "money": self.money,
            "verdicts": self.verdicts,
        }


DERIVED = ("step_flops", "hours", "gpu_hours", "money", "fits")


def _misfits(stage: StagePlan) -> list[str]:
    lines = []
    for bucket in stage.buckets:
        if not bucket.fits:
            ways = " or ".join(bucket.ways_out) or "a GPU with more memory, or leave this bucket out"
            device = stage.cluster.device
            lines.append(
                f"{stage.name} bucket {bucket.name} needs {gibibytes(bucket.memory.total)} of"
                f" {gibibytes(device.memory)} at ZeRO {stage.zero_stage}: {ways}"
            )
    return lines


def gibibytes(size: float) -> str:
    """`93.2 GiB`, and mebibytes where that is a small fraction."""
    return f"{size / 2**30:,.1f} GiB" if size >= 2**30 / 10 else f"{size / 2**20:,.1f} MiB"
