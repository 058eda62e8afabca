"""The plan of a recipe: parameters, memory, time, money and storage, before a GPU is rented.

Everything follows from the recipe, the clip table where there is one, and a few assumptions, which the plan names.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from components.data.forecast import Request, Walk, requests_of
from components.errors import UserError
from components.params import Params
from components.planning.autoencoder import codec_work, plan_codec
from components.planning.denoiser import plan_stage, trained
from components.planning.devices import Cluster
from components.planning.mix import ASPECT, IMAGES, clips_at_hand, clips_for, mix_of
from components.planning.networks import Networks
from components.planning.parts import LatentsPlan, Plan, StagePlan
from components.planning.published import compare
from components.planning.storage import plan_latents
from components.stage import Stage
from components.training.config import LoopConfig

Said = Callable[[str], None]


@dataclass(frozen=True)
class Question:
    """What is asked. `clusters`: by the first part of a stage's name, and under "" for all others."""

    clusters: Mapping[str, Cluster]
    walk: Walk = "loader"
    stage: str | None = None  # only stages whose name begins so

    def cluster(self, stage: str) -> Cluster:
        """The GPUs of a stage: those of the longest beginning of its name that is given."""
        fitting = [name for name in self.clusters if stage.startswith(name)]
        return self.clusters[max(fitting, key=len)]


def plan(params: Params, question: Question, root: Path, said: Said = lambda _stage: None) -> Plan:
    """The plan of all stages that train. `said` is told the name of each stage before it is looked at.

    Raises `UserError` where the recipe asks for something that cannot be built.
    """
    networks = Networks(params, root)
    clips = clips_at_hand(root)
    requests = {request.stage: request for request in requests_of(params)}
    stages, taken, latents = [], [], []
    asked = [stage for stage in networks.stages.values() if stage.name.startswith(question.stage or "")]
    if not asked:
        raise UserError(
            f"no stage of this recipe begins with {question.stage!r}: {', '.join(networks.stages)}"
        )
    for stage in asked:
        config = networks.config(stage)
        if "latents" in stage.outputs:
            latents.append(_latents(stage, networks, clips))
        if not isinstance(config, LoopConfig):
            continue
        if getattr(config, "weights", None) is not None:
            taken.append(stage.name)
            continue
        said(stage.name)
        stages.append(_stage(stage, networks, question, clips, requests))
    comparison = compare(networks, requests) if question.stage is None else None
    encoding = [one.name for one in stages if one.name in requests and _encodes(requests[one.name])]
    assumptions = _assumptions(clips, params, encoding)
    return Plan(params.recipe, tuple(stages), tuple(taken), tuple(latents), assumptions, comparison)


def _encodes(request: Request) -> bool:
    """True for a stage that has no latents and encodes its clips in its own steps."""
    return request.batches.source == "videos"


def _stage(
    stage: Stage,
    networks: Networks,
    question: Question,
    clips: pa.Table | None,
    requests: Mapping[str, Request],
) -> StagePlan:
    cluster = question.cluster(stage.name)
    try:
        if "autoencoder" in stage.outputs:
            return plan_codec(codec_work(stage, networks, cluster), cluster)
        request = requests[stage.name]
        table = clips_for(networks.params, request.batches) if clips is None else clips
        mix = mix_of(request, table, question.walk)
        if not mix.slots:
            raise UserError("none of its buckets are in the `encode` section; add them there")
        source = "assumed" if clips is None else "clip table"
        return plan_stage(trained(stage, networks, cluster), mix, cluster, source)
    except ValueError as error:
        raise UserError(f"{stage.name}: {error}") from None


def _latents(stage: Stage, networks: Networks, clips: pa.Table | None) -> LatentsPlan:
    if clips is not None:
        return plan_latents(stage, networks, clips, "clip table")
    batches = [
        request.batches
        for request in requests_of(networks.params)
        if request.encode == networks.config(stage)
    ]
    return plan_latents(stage, networks, clips_for(networks.params, batches[-1]), "assumed")


def _assumptions(clips: pa.Table | None, params: Params, encoding: Sequence[str]) -> tuple[str, ...]:
    """encoding: stages that encode clips in their own steps."""
    split, lines = params.split, []
    if clips is None:
        lines.append(
            f"no clip table here: clips of {split.min_seconds:g} to {split.max_seconds:g} s, all lengths alike,"
            f" {IMAGES:.0%} images, all {ASPECT} and large enough for every bucket; the shares of the buckets follow"
        )
    return (
        *lines,
        "a step takes as long as its slowest GPU; reading data, validation, checkpoints and restarts come on top",
        "memory: fused attention, float32 weights under autocast, 5 % of the activations lost to fragments, 2 GiB for"
        " CUDA and NCCL",
        f"{', '.join(encoding)}: clips are encoded in the steps; memory and time of text encoder and autoencoder, which"
        " are on every GPU, come on top of all figures"
        if encoding
        else "text encoder and autoencoder are not on the GPU, since latents are stored",
    )
