"""What a recipe needs of a cluster, taken from its plan: GPUs, hours, disk, money."""

import math
from dataclasses import dataclass, replace
from pathlib import Path

from components.errors import UserError
from components.params import Params
from components.planning.devices import Device, parse_cluster
from flows.infra.cost import GPUS_PER_MACHINE, gpu_price

GIB = 1 << 30
INSTANCE_TYPES = {"H100": "p5.48xlarge", "H200": "p5e.48xlarge"}
NVME_GIB = 28_000  # of a machine's own disks, 8 of 3.84 TB, which its pods write to
LUSTRE_GIB = 2_400  # FSx sells multiples


@dataclass(frozen=True)
class Needs:
    """Of all training stages together, at AWS's prices.

    `shared_gib`: of latents and checkpoints, for which several machines need a file system that they share.
    """

    recipe: str
    gpus: int
    gpu: str
    hours: float
    dollars: float
    shared_gib: float

    @property
    def nodes(self) -> int:
        return math.ceil(self.gpus / GPUS_PER_MACHINE)

    @property
    def instance_type(self) -> str:
        return INSTANCE_TYPES[self.gpu]

    @property
    def lustre_gib(self) -> int | None:
        """Size of a shared file system; None where one machine's own disks do."""
        if self.nodes < 2 and self.shared_gib < NVME_GIB:
            return None
        return LUSTRE_GIB * max(1, math.ceil(self.shared_gib / LUSTRE_GIB))

    def sentence(self) -> str:
        shared = f", {self.shared_gib:,.0f} GiB of latents and checkpoints"
        return (
            f"{self.recipe} on {self.gpus} x {self.gpu} ({self.nodes} x {self.instance_type}): {self.hours:,.1f} hours,"
            f" {self.dollars:,.0f} dollars of GPUs on demand{shared}"
        )


def needs_of(params: Params, gpus: str, root: Path) -> Needs:
    """`gpus` as in `96xH100`. Raises `UserError`, also where a stage does not fit on such GPUs or AWS has none."""
    from components.planning.plan import Question  # loads torch, which no other command of `infra` needs
    from components.planning.plan import plan as make

    asked = parse_cluster(gpus)
    cluster = replace(asked, price=gpu_price(_instance_type(asked.device)))
    found = make(params, Question({"": cluster}), root)
    if found.verdicts:
        raise UserError(
            f"{params.recipe} on {cluster.name}: {found.verdicts[0]} (`reelforge plan` tells all)"
        )
    kept = [stage.checkpoint_bytes * stage.checkpoints / GIB for stage in found.stages]
    latents = sum(each.bytes for each in found.latents) / GIB
    return Needs(
        recipe=params.recipe,
        gpus=cluster.count,
        gpu=cluster.device.name,
        hours=sum(stage.hours for stage in found.stages),
        dollars=found.money,
        shared_gib=latents + sum(kept),
    )


def _instance_type(device: Device) -> str:
    if device.name not in INSTANCE_TYPES:
        raise UserError(
            f"the cluster has machines with {' or '.join(INSTANCE_TYPES)}, not {device.name} (--gpus)"
        )
    return INSTANCE_TYPES[device.name]
