"""One figure against its threshold, with the node it was measured on and what to do about it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

WAYS_OUT: Mapping[str, str] = {
    "gpu.usable": "drain the node; `nvidia-smi` and the Xid lines of `dmesg` on it say what is broken",
    "gpu.count": "drain the node: a GPU fell off the bus, or the pod asks for too few",
    "gpu.name": "the pod runs on another kind of node; see its node selector",
    "gpu.free_memory": "another process holds the GPU's memory: end it, or drain the node",
    "gpu.ecc": "drain the node: the memory of the GPU is failing",
    "compute.speed": "the GPU is throttled or shared: look at its clocks and temperature, then drain the node",
    "all_reduce.correct": "do not train here: sums come out wrong; drain the nodes one by one to find the bad one",
    "all_reduce.bandwidth": "see in the NCCL log whether EFA and NVLink are in use, then drain the slow node",
    "storage.read": "look at the throughput of the file system, and whether the data lies in this zone",
    "group.complete": "a peer did not come or stopped answering: look at the pods of the job",
}


@dataclass(frozen=True)
class Check:
    """`rank` None means the node or the group as a whole. `measured` None: it could not be measured."""

    name: str
    node: str
    rank: int | None
    measured: float | None
    sense: Literal["at least", "at most"]
    needed: float
    unit: str
    detail: str = ""

    @property
    def passed(self) -> bool:
        if self.measured is None:
            return False
        return self.measured >= self.needed if self.sense == "at least" else self.measured <= self.needed

    def sentence(self) -> str:
        """For a reader of the log: what, where, how much of what was needed, and the way out."""
        where = self.node if self.rank is None else f"{self.node}, rank {self.rank}"
        found = (
            "could not be measured" if self.measured is None else f"{self.measured:.4g} {self.unit}".rstrip()
        )
        detail = f" ({self.detail})" if self.detail else ""
        needed = f"{self.sense} {self.needed:.4g} {self.unit}".rstrip()
        line = f"{self.name} on {where}: {found}, needs {needed}{detail}"
        return line if self.passed else f"{line}. {WAYS_OUT[self.name]}"

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "passed": self.passed}
