"""The plan of a stage that trains a transformer on buckets of latents."""

from dataclasses import dataclass, replace

from components.denoiser.config import LatentStageConfig
from components.denoiser.system_config import TeacherForcedStageConfig, WaltStageConfig
from components.planning.clock import Work, mean_seconds, readers_on, slowest_seconds
from components.planning.devices import Cluster
from components.planning.memory import STAGES, Memory, Setting, memory_of
from components.planning.mix import Mix, Slot
from components.planning.networks import Config, Networks
from components.planning.parts import BucketPlan, Choice, DataPlan, StagePlan
from components.planning.steps import How, Sample, build, step_of
from components.stage import Stage
from components.training.config import LoopConfig
from models.shapes import LatentGeometry, token_grid
from models.transformers.sequence import ROWS, axis_to_divide


@dataclass(frozen=True)
class Trained:
    """A transformer stage, ready to be asked about any of its buckets."""

    name: str
    config: LoopConfig
    keys: Config
    geometry: LatentGeometry
    setting: Setting
    how: How
    masked: bool
    stack: int  # latent frames of the longest clips, where as many images make a clip; else 0

    def sample(self, slot: Slot) -> Sample:
        """What the model sees of a bucket."""
        bucket, batch = slot.bucket, slot.batch
        latent = self.geometry.latent_shape(bucket.frames, bucket.height, bucket.width)
        images = self.stack > 1 and bucket.frames == 1
        if images:
            batch, latent = max(1, batch // self.stack), (latent[0], self.stack, *latent[2:])
        forced = isinstance(self.config, TeacherForcedStageConfig)
        return Sample(batch, latent, masked=self.masked and bucket.frames > 1, forced=forced, images=images)

    def of_one(self, sample: Sample) -> Sample:
        """What one GPU holds of a batch, which several share under sequence parallelism. Raises `ValueError`."""
        size, (channels, frames, rows, columns) = self.config.sequence_parallel, sample.latent
        if size == 1:
            return sample
        patch = self.patch
        _, high, wide = token_grid((frames, rows, columns), patch)
        if axis_to_divide((high, wide), size) == ROWS:
            return replace(sample, latent=(channels, frames, high // size * patch[1], columns))
        return replace(sample, latent=(channels, frames, rows, wide // size * patch[2]))

    @property
    def patch(self) -> tuple[int, int, int]:
        """Latents of a token."""
        frames, rows, columns = self.keys.get("patch", (1, 2, 2))
        return frames, rows, columns

    @property
    def more(self) -> float:
        """FLOPs of a step over those of one pass: for an estimate of its own the model runs forward once more."""
        return 1 + self.config.self_conditioning / 3 if isinstance(self.config, WaltStageConfig) else 1.0

    def memory(
        self, sample: Sample, *, zero_stage: int | None = None, recompute: bool | None = None
    ) -> Memory:
        """Of a step, under another setting where one is given."""
        stage = self.setting.zero_stage if zero_stage is None else zero_stage
        again = self.how.recompute if recompute is None else recompute
        setting = replace(self.setting, zero_stage=stage, recompute=again)
        return memory_of(setting, step_of(self.keys, self.of_one(sample), replace(self.how, recompute=again)))


def trained(stage: Stage, networks: Networks, cluster: Cluster) -> Trained:
    """What a stage trains, and how."""
    config = networks.config(stage)
    keys = networks.transformer(stage)
    temporal_only = isinstance(config, LatentStageConfig) and config.trainable == "temporal"
    how = How(config.precision != "fp32", config.activation_checkpointing, temporal_only)
    model = build(keys)
    if config.sequence_parallel > 1:
        model.check_division(config.sequence_parallel)
    if getattr(config, "freeze_caption", False):
        model.caption.requires_grad_(False)
    chosen = model.temporal_parameters() if temporal_only else list(model.parameters())
    everything = sum(parameter.numel() for parameter in model.parameters())
    shapes = [tuple(parameter.shape) for parameter in chosen if parameter.requires_grad]
    setting = Setting.of(config, cluster.count, trained=shapes, everything=everything)
    masks = getattr(config, "masks", None)
    masked = masks is not None and any(masks.model_dump().values())
    geometry, stack = networks.geometry(stage), 0
    if isinstance(config, WaltStageConfig):
        masked = config.frame_prediction.probability > 0
        stack = max(
            geometry.latent_frames(frames)
            for lengths in config.batches.buckets.values()
            for frames in lengths
        )
    return Trained(stage.name, config, keys, geometry, setting, how, masked, stack)


def plan_stage(work: Trained, mix: Mix, cluster: Cluster, source: str) -> StagePlan:
    """The plan of one stage."""
    buckets = tuple(_bucket(work, slot, cluster) for slot in mix.slots)
    works = [Work(bucket.share, bucket.seconds) for bucket in buckets]
    fullest = max(range(len(buckets)), key=lambda index: buckets[index].memory.total)
    return StagePlan.of(
        work,
        cluster,
        buckets=buckets,
        choices=_choices(work, mix.slots[fullest], cluster),
        data=data_plan(mix, source),
        mean_seconds=mean_seconds(works),
        slowest_seconds=slowest_seconds(works, readers_on(work.config, cluster.count)),
    )


def _bucket(work: Trained, slot: Slot, cluster: Cluster) -> BucketPlan:
    sample, bucket = work.sample(slot), slot.bucket
    step = step_of(work.keys, sample, work.how)
    memory = work.memory(sample)
    fits = memory.total <= cluster.device.memory
    frames, rows, columns = token_grid(sample.latent[1:], work.patch)
    frames *= 2 if sample.forced else 1
    flops = round(step.flops * work.more)
    return BucketPlan(
        name=f"{bucket.resolution} x {bucket.frames}",
        height=bucket.height,
        width=bucket.width,
        frames=bucket.frames,
        batch=slot.batch,
        tokens=sample.batch * frames * rows * columns,
        share=slot.share,
        flops=flops,
        recomputed=step.recomputed,
        seconds=flops / work.config.sequence_parallel / cluster.flops(bf16=work.how.bf16),
        memory=memory,
        fits=fits,
        ways_out=() if fits else tuple(_ways_out(work, sample, cluster)),
    )


def _choices(work: Trained, slot: Slot, cluster: Cluster) -> tuple[Choice, ...]:
    """The fullest bucket under every ZeRO stage, with and without activation checkpointing."""
    sample, room = work.sample(slot), cluster.device.memory
    choices = []
    for recompute in (False, True):
        for stage in STAGES:
            total = work.memory(sample, zero_stage=stage, recompute=recompute).total
            choices.append(Choice(stage, recompute, total, total <= room))
    return tuple(choices)


def _ways_out(work: Trained, sample: Sample, cluster: Cluster) -> list[str]:
    """Single changes that make a batch fit; where there are none, two or three at once."""
    room, stage = cluster.device.memory, work.setting.zero_stage
    higher = [other for other in STAGES if other > stage] if cluster.count > 1 else []
    ways = []
    if not work.how.recompute and work.memory(sample, recompute=True).total <= room:
        ways.append("activation checkpointing")
    for other in higher:
        if work.memory(sample, zero_stage=other).total <= room:
            ways.append(f"ZeRO {other}")
            break
    if batch := _fitting_batch(work, sample, cluster, stage, recompute=work.how.recompute):
        ways.append(f"batch {batch}")
    if ways:
        return ways
    last = higher[-1] if higher else stage
    changes = [f"ZeRO {last}"] if higher else []
    changes += [] if work.how.recompute else ["activation checkpointing"]
    if changes and work.memory(sample, zero_stage=last, recompute=True).total <= room:
        return [" with ".join(changes)]
    batch = _fitting_batch(work, sample, cluster, last, recompute=True)
    return [" with ".join([*changes, f"batch {batch}"])] if batch else []


def _fitting_batch(work: Trained, sample: Sample, cluster: Cluster, stage: int, *, recompute: bool) -> int:
    """The largest batch that fits, if it is smaller than the one asked for; else 0."""
    one = work.memory(replace(sample, batch=1), zero_stage=stage, recompute=recompute)
    left = cluster.device.memory - one.total
    if left < 0 or sample.batch == 1:
        return 0
    two = work.memory(replace(sample, batch=2), zero_stage=stage, recompute=recompute)
    return min(sample.batch - 1, 1 + left // max(two.total - one.total, 1))


def data_plan(mix: Mix, source: str) -> DataPlan:
    """What becomes of the clips of a stage."""
    found = mix.forecast
    return DataPlan(
        source=source,
        clips=found.clips,
        used=found.used,
        batches=found.batches,
        dropped=sum(row.dropped for row in found.rows),
        repeated=sum(row.repeated for row in found.rows),
        refused=tuple(f"{row.resolution} x {row.frames} {row.aspect}" for row in found.rows if row.refused),
        unused=found.unused,
        empty=_names(set(found.nothing) - set(mix.not_encoded)),
        not_encoded=_names(set(mix.not_encoded)),
    )


def _names(buckets: set[tuple[str, int]]) -> tuple[str, ...]:
    return tuple(f"{resolution} x {frames}" for resolution, frames in sorted(buckets))
