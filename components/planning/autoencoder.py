"""The plan of a stage that trains an autoencoder, on clips of one size."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from components.autoencoder.adversary import Adversary
from components.autoencoder.config import (
    CausalStageConfig,
    ImageStageConfig,
    TemporalStageConfig,
    TrainedOrTaken,
)
from components.autoencoder.objectives import LatentObjective, PixelObjective, WeightedDistance
from components.planning.devices import Cluster
from components.planning.flops import META, on_meta
from components.planning.memory import STAGES, Memory, Setting, memory_of
from components.planning.networks import Networks
from components.planning.parts import BucketPlan, Choice, DataPlan, StagePlan
from components.planning.passes import Pass, run_pass
from components.stage import Stage
from models.autoencoders.codec import VideoCodec
from models.autoencoders.perceptual import VGG16, PerceptualDistance, vgg
from models.autoencoders.video import VideoAutoencoder

Config = ImageStageConfig | CausalStageConfig | TemporalStageConfig


@dataclass(frozen=True)
class CodecWork:
    """An autoencoder stage, ready to be asked about its batch."""

    name: str
    config: Config
    codec: VideoCodec
    setting: Setting

    def step(self, *, recompute: bool) -> Pass:
        """Forward and backward of a batch of the longest clips."""
        objective = build_objective(self.codec, self.config)
        if recompute:
            for part in objective.modules():
                enable: Any = getattr(part, "enable_gradient_checkpointing", None)
                if callable(enable):
                    enable()
        data = self.config.data
        frames = on_meta(torch.empty(data.batch, 3, data.frames, data.height, data.width, device=META))
        generator = torch.Generator().manual_seed(0)

        def call() -> Tensor:
            total: Tensor = objective(frames, generator, step=self.config.steps).total
            return total

        return run_pass(objective, call, bf16=self.setting.bf16)


def codec_work(stage: Stage, networks: Networks, cluster: Cluster) -> CodecWork:
    """What a stage trains, and how."""
    config = networks.config(stage)
    codec = networks.codec(stage.outputs["autoencoder"])
    objective = build_objective(codec, config)
    shapes = [tuple(parameter.shape) for parameter in objective.parameters() if parameter.requires_grad]
    everything = sum(parameter.numel() for parameter in objective.parameters())
    setting = Setting.of(config, cluster.count, trained=shapes, everything=everything)
    return CodecWork(stage.name, config, codec, setting)


def build_objective(codec: VideoCodec, config: Config) -> nn.Module:
    """What the stage minimises, without weights and without files."""
    codec.requires_grad_(True)
    with torch.device(META):
        if isinstance(config, TemporalStageConfig) and isinstance(codec, VideoAutoencoder):
            codec.image.requires_grad_(config.train_image_autoencoder)
            if config.target == "latents":
                return LatentObjective(codec, config.loss, identity=config.identity)
        return PixelObjective(
            codec, config.loss, perceptual=_distance(config), adversary=_adversary(codec, config)
        )


def _distance(config: TrainedOrTaken) -> WeightedDistance | None:
    asked = config.perceptual
    return WeightedDistance(PerceptualDistance(vgg(asked.levels or VGG16)), asked.weight) if asked else None


def _adversary(codec: VideoCodec, config: TrainedOrTaken) -> Adversary | None:
    if config.adversarial is None:
        return None
    stride, data = codec.geometry.spatial_stride, config.data
    return Adversary(
        config.adversarial,
        (data.frames, data.height - data.height % stride, data.width - data.width % stride),
    )


def plan_codec(work: CodecWork, cluster: Cluster) -> StagePlan:
    """The plan of one stage. Memory is that of the longest clips; FLOPs are a mean over the lengths of the steps."""
    config, setting = work.config, work.setting
    passes = {recompute: work.step(recompute=recompute) for recompute in (False, True)}
    step = passes[setting.recompute]
    share = mean_frames(config) / config.data.frames
    flops, room = round(step.flops * share), cluster.device.memory

    def memory(zero_stage: int, *, recompute: bool) -> Memory:
        return memory_of(replace(setting, zero_stage=zero_stage, recompute=recompute), passes[recompute])

    data = config.data
    latent = work.codec.geometry.latent_shape(
        work.codec.geometry.longest_clip(data.frames), data.height, data.width
    )
    found = memory(setting.zero_stage, recompute=setting.recompute)
    choices = tuple(
        Choice(stage, recompute, total, total <= room)
        for recompute in (False, True)
        for stage in STAGES
        for total in (memory(stage, recompute=recompute).total,)
    )
    seconds = flops / cluster.flops(bf16=setting.bf16)
    bucket = BucketPlan(
        name=f"{data.height}x{data.width} x {data.frames}",
        height=data.height,
        width=data.width,
        frames=data.frames,
        batch=data.batch,
        tokens=data.batch * latent[1] * latent[2] * latent[3],
        share=1.0,
        flops=flops,
        recomputed=round(step.recomputed * share),
        seconds=seconds,
        memory=found,
        fits=found.total <= room,
        ways_out=tuple(_words(choice, setting) for choice in choices if choice.fits)[:2],
    )
    return StagePlan.of(
        work,
        cluster,
        buckets=(bucket,),
        choices=choices,
        data=DataPlan("recipe"),
        mean_seconds=seconds,
        slowest_seconds=seconds,
    )


def mean_frames(config: Config) -> float:
    """Frames of a clip, over the steps: some see single frames, some lengths that are drawn."""
    longest = config.data.frames
    if isinstance(config, ImageStageConfig):
        return longest
    usual = (1 + longest) / 2 if config.mixed_lengths else longest
    return config.image_share + (1 - config.image_share) * usual


def _words(choice: Choice, setting: Setting) -> str:
    parts = [f"ZeRO {choice.zero_stage}"] if choice.zero_stage != setting.zero_stage else []
    if choice.recompute and not setting.recompute:
        parts.append("activation checkpointing")
    return " with ".join(parts) or "as it is"
