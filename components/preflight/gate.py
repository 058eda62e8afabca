"""The order of the checks, and one verdict for the whole gang.

Every process learns every other's figures and comes to the same verdict, so either all of them go on to training
or none does. What one process can find out alone is settled first: a broken GPU would hang a sum over all.
"""

import logging
import socket
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist

from components import runtime
from components.preflight import measure
from components.preflight.check import Check
from components.preflight.config import GpuConfig, PreflightConfig

logger = logging.getLogger(__name__)


def run(config: PreflightConfig) -> list[Check]:
    """All checks of all processes, the same list on each. Says what is wrong, and raises for defects only."""
    launch = runtime.launch()
    node = socket.gethostname()
    try:
        with _group(config, launch):
            return _all_checks(config, launch, node)
    except RuntimeError as error:  # what torch raises for a peer that is lost, or never came
        detail = f"{launch.world_size} expected: {str(error).splitlines()[0]}"
        return [
            Check(
                "group.complete", node, launch.rank, None, "at least", launch.world_size, "processes", detail
            )
        ]


@contextmanager
def _group(config: PreflightConfig, launch: runtime.Launch) -> Iterator[None]:
    """Verdicts travel by gloo, so that they still do where NCCL does not work."""
    backend = "gloo" if config.device == "cpu" else "cpu:gloo,cuda:nccl"
    dist.init_process_group(
        backend,
        rank=launch.rank,
        world_size=launch.world_size,
        timeout=timedelta(seconds=config.timeout_seconds),
    )
    try:
        yield
    finally:
        dist.destroy_process_group()


def _all_checks(config: PreflightConfig, launch: runtime.Launch, node: str) -> list[Check]:
    device = (
        torch.device(config.device, launch.local_rank) if config.device == "cuda" else torch.device("cpu")
    )
    checks = _gathered(_local_checks(config, device, node, launch.rank))
    if all(check.passed for check in checks):
        checks += _gathered(_storage_share(config, node, launch.rank), together=True)
        checks += _gathered(_all_reduce_checks(config, device))
    return checks


def _gathered(mine: list[Check], *, together: bool = False) -> list[Check]:
    """The checks of all processes by rank; `together` adds the figures of a node's processes up."""
    parts: list[list[Check]] = [[] for _ in range(dist.get_world_size())]
    dist.all_gather_object(parts, mine)
    checks = [check for part in parts for check in part]
    return _per_node(checks) if together else checks


def _per_node(checks: list[Check]) -> list[Check]:
    shares: dict[tuple[str, str], list[Check]] = defaultdict(list)
    for check in checks:
        shares[check.name, check.node].append(check)
    totals = []
    for (name, node), parts in shares.items():
        figures = [part.measured for part in parts if part.measured is not None]
        total = sum(figures) if len(figures) == len(parts) else None
        detail = "; ".join(sorted({part.detail for part in parts if part.detail}))
        totals.append(Check(name, node, None, total, parts[0].sense, parts[0].needed, parts[0].unit, detail))
    return totals


def _local_checks(config: PreflightConfig, device: torch.device, node: str, rank: int) -> list[Check]:
    try:
        checks = _gpu_checks(config.gpu, device, node, rank) if config.gpu else []
        if all(check.passed for check in checks):
            speed = measure.compute_tflops(config.compute, device)
            checks.append(
                Check("compute.speed", node, rank, speed, "at least", config.compute.min_tflops, "TFLOP/s")
            )
        return checks
    except (RuntimeError, OSError, subprocess.SubprocessError) as error:
        return [Check("gpu.usable", node, rank, None, "at least", 1, "GPU", str(error).splitlines()[0])]


def _gpu_checks(config: GpuConfig, device: torch.device, node: str, rank: int) -> list[Check]:
    count = torch.cuda.device_count()
    checks = [Check("gpu.count", node, rank, count, "at least", config.per_node, "GPUs")]
    if count <= device.index:
        return checks
    torch.cuda.set_device(device)
    name = torch.cuda.get_device_name(device)
    free = torch.cuda.mem_get_info(device)[0] / measure.GIGABYTE
    errors = measure.uncorrected_errors(device.index)
    return [
        *checks,
        Check("gpu.name", node, rank, float(config.name in name), "at least", 1, config.name, f"it is a {name}"),
        Check("gpu.free_memory", node, rank, free, "at least", config.min_free_gb, "GB"),
        Check(
            "gpu.ecc", node, rank, errors, "at most", config.max_uncorrected_errors, "uncorrected errors",
            "ECC is off" if errors is None else "",
        ),
    ]  # fmt: skip


def _storage_share(config: PreflightConfig, node: str, rank: int) -> list[Check]:
    """This process's part of what its node reads."""
    dist.barrier()
    detail, rate = "", None
    try:
        rate, read = measure.read_rate(config.storage)
        if read == 0:
            detail, rate = f"no file with data in {config.storage.place}", None
    except OSError as error:
        detail = f"{config.storage.place}: {error}"
    return [
        Check("storage.read", node, rank, rate, "at least", config.storage.min_gb_per_second, "GB/s", detail)
    ]


def _all_reduce_checks(config: PreflightConfig, device: torch.device) -> list[Check]:
    """Two checks from rank 0, none from the others: the figures are of the group. A group of one has no sum."""
    world = dist.get_world_size()
    if world == 1:
        return []
    wanted = config.all_reduce
    seconds, wrong = measure.all_reduce(wanted, device)
    if dist.get_rank() != 0:
        return []
    rate = measure.bus_bandwidth(wanted.megabytes * measure.MEGABYTE, seconds, world)
    group = f"{world} processes"
    return [
        Check("all_reduce.correct", group, None, wrong, "at most", 0, "wrong elements"),
        Check("all_reduce.bandwidth", group, None, rate, "at least", wanted.min_gb_per_second, "GB/s"),
    ]
