"""What a recipe needs of a cluster, taken from its plan: GPUs, hours, disk, money."""

import math
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from components.errors import UserError
from components.params import Params

GIB = 1 << 30
GPUS_PER_NODE = 8
INSTANCE_TYPES = {"H100": "p5.48xlarge", "H200": "p5e.48xlarge"}
LEAST_DISK_GIB = 500
IMAGES_GIB = 200  # container images, caches, logs of a node
LUSTRE_GIB = 2_400  # FSx sells multiples


@dataclass(frozen=True)
class Needs:
    """Of all training stages together. `disk_gib`: of one node, for checkpoints; `shared_gib`: of all, with latents."""

    recipe: str
    gpus: int
    gpu: str
    hours: float
    dollars: float
    disk_gib: int
    shared_gib: float

    @property
    def nodes(self) -> int:
        return math.ceil(self.gpus / GPUS_PER_NODE)

    @property
    def instance_type(self) -> str:
        """Raises `UserError` for a GPU that the cluster has no machines of."""
        if self.gpu not in INSTANCE_TYPES:
            raise UserError(
                f"the cluster has machines with {' or '.join(INSTANCE_TYPES)}, not {self.gpu} (--gpus)"
            )
        return INSTANCE_TYPES[self.gpu]

    @property
    def lustre_gib(self) -> int | None:
        """Size of a shared file system; None where one node's own disks do."""
        if self.nodes < 2:
            return None
        return LUSTRE_GIB * max(1, math.ceil(self.shared_gib / LUSTRE_GIB))

    def sentence(self) -> str:
        shared = f", {self.shared_gib:,.0f} GiB of latents and checkpoints"
        return (
            f"{self.recipe} on {self.gpus} x {self.gpu}: {self.hours:,.1f} hours, {self.dollars:,.0f} dollars of GPUs"
            f"{shared}"
        )


def needs_of(params: Params, gpus: str, root: Path) -> Needs:
    """`gpus` as in `96xH100`. Raises `UserError`, also where a stage does not fit on such GPUs."""
    if find_spec("components.planning") is None:
        raise UserError("this version cannot plan a recipe: say --gpu-nodes instead of --recipe and --gpus")
    from components.planning.devices import parse_cluster
    from components.planning.plan import Question
    from components.planning.plan import plan as make

    cluster = parse_cluster(gpus)
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
        disk_gib=max(LEAST_DISK_GIB, math.ceil(max(kept, default=0.0)) + IMAGES_GIB),
        shared_gib=latents + sum(kept),
    )
