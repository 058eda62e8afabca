"""The processes of one training run: how they find each other, and the few things they agree on.

Apart from gradients, which are DeepSpeed's, processes exchange flags, small means and decisions of rank 0. All of it
goes through here, before there is an engine and after it has gone.
"""

import logging
import sys
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

from components import runtime
from components.errors import UserError
from components.imports import load

Value = TypeVar("Value")


def join(*, patience_seconds: float | None = None) -> Any:
    """DeepSpeed, after this process has joined its group.

    A process that waits longer than `patience_seconds` for another one gives up (None: as PyTorch has it).
    """
    launch = runtime.launch()  # sets what DeepSpeed reads when it is imported
    patience = None
    if patience_seconds is not None:
        patience = timedelta(seconds=patience_seconds)
        runtime.limit_waiting(patience_seconds)
    deepspeed = load_deepspeed()
    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    backend = "gloo"
    if torch.cuda.is_available():
        torch.cuda.set_device(launch.local_rank)
        backend = "nccl"
    if not torch.distributed.is_initialized():
        if launch.world_size == 1:  # a store in memory: no port is opened
            store = cast(Any, torch.distributed).HashStore()
            torch.distributed.init_process_group(backend, store=store, rank=0, world_size=1)
        else:
            torch.distributed.init_process_group(backend, timeout=patience)
    # None of DeepSpeed's operators is used. It would run a compiler to see which it could build, and build one.
    deepspeed.ops.__compatible_ops__ = {}
    deepspeed.init_distributed(backend, auto_mpi_discovery=False, verbose=False)
    return deepspeed


def load_deepspeed() -> Any:
    """DeepSpeed. Its autotuner, which nothing here uses, would bring in all of MLflow: where nothing is tracked that
    is a quarter of the time that a process takes to start."""
    modules = cast(dict[str, Any], sys.modules)
    tracked = runtime.tracking_enabled() and runtime.is_main_process()
    hidden = not tracked and "mlflow" not in modules
    if hidden:
        modules["mlflow"] = None  # to `import` this means that there is no such module
    try:
        deepspeed = load("deepspeed")
    finally:
        if hidden:
            del modules["mlflow"]
    return deepspeed


def mean(values: Sequence[float]) -> list[float]:
    """Mean of each value over the processes."""
    processes = runtime.launch().world_size
    if processes == 1:
        return list(values)
    total = torch.tensor(values, dtype=torch.float64, device=runtime.compute_device())
    torch.distributed.all_reduce(total)
    return cast(list[float], (total / processes).tolist())


def rank() -> int:
    """Of this process, from 0."""
    return runtime.launch().rank


def require_samples(samples: int, what: str) -> None:
    """Raises `UserError` before the first step where there are more processes than samples."""
    if samples < size():
        raise UserError(
            f"{what} has {samples} samples and would be trained on by {size()} processes: some would only repeat what"
            f" others see. Start at most {samples} processes (runtime.launch), or add clips"
        )


def size() -> int:
    """Processes of this run."""
    return runtime.launch().world_size


def gather(values: Sequence[float]) -> list[list[float]]:
    """The values of every process, by rank, in one exchange. Those of one that are not finite stay its own."""
    launch = runtime.launch()
    if launch.world_size == 1:
        return [list(values)]
    table = torch.zeros(launch.world_size, len(values), dtype=torch.float64, device=runtime.compute_device())
    table[launch.rank] = torch.tensor(values, dtype=torch.float64)
    torch.distributed.all_reduce(table)
    return cast(list[list[float]], table.tolist())


def add(whole: Tensor) -> Tensor:
    """The sum over the processes, in place."""
    if runtime.launch().world_size > 1:
        torch.distributed.all_reduce(whole)
    return whole


def from_main(value: Value) -> Value:
    """What rank 0 gave; the others' values are not looked at."""
    if runtime.launch().world_size == 1:
        return value
    carried = [value]
    torch.distributed.broadcast_object_list(carried, src=0, device=runtime.compute_device())
    return carried[0]


def barrier() -> None:
    """Wait for all processes."""
    if runtime.launch().world_size > 1:
        torch.distributed.barrier()


def from_all(value: Value) -> list[Value]:
    """What every process gave, by rank."""
    launch = runtime.launch()
    if launch.world_size == 1:
        return [value]
    gathered: list[Any] = [None] * launch.world_size
    torch.distributed.all_gather_object(gathered, value)
    return gathered
