"""How much arithmetic a run does: FLOPs and tokens of each forward pass, counted once for each shape of its inputs.

A count takes about as long as a step of a small model, so it waits until it is a small share of the run so far.

The count is the planner's (`components.planning.flops`), so MFU has one definition before and after a run: model FLOPs,
without what activation checkpointing repeats, over the dense peak of the device.
"""

import logging
import math
import re
import resource
import sys
import time
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map_only

from components.planning.devices import DEVICES
from components.planning.flops import count_flops, meta_twin, on_meta
from components.training.parts import blocks_of

log = logging.getLogger(__name__)
SHARE = 0.01  # of a run that counting may take
FIRST_SECONDS = 0.5  # what the first count is taken to need
UNKNOWN = math.nan


@dataclass(frozen=True)
class Work:
    """Of one forward pass (with its backward pass), or of several; `UNKNOWN` where one was not counted."""

    flops: float = 0.0
    tokens: float = 0.0  # that enter the first transformer block

    def __add__(self, other: "Work") -> "Work":
        return Work(self.flops + other.flops, self.tokens + other.tokens)


class WorkMeter:
    """Counts what passes through a module from here on. Make it before an engine divides the parameters."""

    def __init__(self, module: nn.Module) -> None:
        self._twin = meta_twin(module)
        self._first = next(iter(blocks_of(self._twin)), None)
        self._known: dict[Hashable, Work] = {}
        self._able = True
        self._began, self._spent, self._longest = time.perf_counter(), 0.0, FIRST_SECONDS
        self.total = Work()
        self._hook = module.register_forward_pre_hook(self._note, with_kwargs=True)

    def take(self) -> Work:
        """The work since the last time."""
        taken, self.total = self.total, Work()
        return taken

    def close(self) -> None:
        """Look no longer."""
        self._hook.remove()

    def _note(self, _module: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        if not self._able:
            return
        leaves = tree_leaves((arguments, named))
        shapes = tuple(tuple(leaf.shape) if isinstance(leaf, Tensor) else leaf is None for leaf in leaves)
        key = (shapes, torch.is_grad_enabled())
        if key not in self._known and self._may_count():
            started = time.perf_counter()
            self._known[key] = self._count(arguments, named)
            took = time.perf_counter() - started
            self._spent, self._longest = self._spent + took, max(self._longest, took)
        self.total += self._known.get(key, Work(UNKNOWN, UNKNOWN))

    def _may_count(self) -> bool:
        return self._spent + self._longest <= SHARE * (time.perf_counter() - self._began)

    def _count(self, arguments: tuple[Any, ...], named: Mapping[str, Any]) -> Work:
        """Run the twin, which draws no number that the run would have drawn."""
        arguments, named = tree_map_only(torch.Generator, _fresh, on_meta((arguments, dict(named))))
        entered: list[int] = []
        noted = (
            self._first.register_forward_pre_hook(lambda _, x: entered.append(x[0].shape[:-1].numel()))
            if (self._first is not None)
            else None
        )
        try:
            with torch.random.fork_rng(devices=[]):
                flops = count_flops(self._twin, lambda twin: twin(*arguments, **named))
        except Exception as error:  # noqa: BLE001  # a figure of the log must not end a run
            log.info("the FLOPs of a step cannot be counted here: %s", str(error).splitlines()[:1])
            self._able = False
            return Work(UNKNOWN, UNKNOWN)
        finally:
            if noted is not None:
                noted.remove()
        return Work(flops, entered[0] if entered else 0)


def peak_flops(*, bf16: bool) -> float | None:
    """FLOP/s that this process's device could do at most; None where that is not known, as on CPUs."""
    if not torch.cuda.is_available():
        return None
    return peak_of(torch.cuda.get_device_name(), bf16=bf16)


def peak_of(device_name: str, *, bf16: bool) -> float | None:
    """Dense peak by the driver's name of a GPU, such as `NVIDIA A100-SXM4-80GB`."""
    plain = _plain(device_name)
    fitting = [name for name in DEVICES if all(word in plain for word in _plain(name).split())]
    if not fitting:
        return None
    device = DEVICES[max(fitting, key=len)]
    return (device.tflops if bf16 else device.single) * 1e12


def memory_gb() -> float:
    """The most memory that this process has held: of the GPU where there is one."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e9
    kilobyte = 1e3 if sys.platform == "linux" else 1.0  # macOS reports bytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * kilobyte / 1e9


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", " ", name.lower().replace("rtx ", "rtx"))


def _fresh(_used: torch.Generator) -> torch.Generator:
    return torch.Generator()
