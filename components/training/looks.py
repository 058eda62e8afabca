"""How processes share what a look at held-out samples takes, and what comes of it: means by name, the same on all."""

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from torch import Tensor

from components.training import processes

Item = TypeVar("Item")


def shared(items: Sequence[Item], *, alone: bool = False) -> Iterator[tuple[Item, bool]]:
    """This process's share of the items. All have as many, which ZeRO 3 needs; a repeated one does not count.

    `alone`: every process takes them all, as where several share one clip.
    """
    count, rank = (1, 0) if alone else (processes.size(), processes.rank())
    for start in range(0, len(items), count):
        place = start + rank
        yield items[min(place, len(items) - 1)], place < len(items)


@dataclass(frozen=True)
class Averaged:
    """Means over all samples, by name, and by `name/sample` for samples that have names; nan where there are none."""

    whole: float
    by_name: Mapping[str, float]
    by_sample: Mapping[str, float]


class Means:
    """Takes in values of single samples, and has their means."""

    def __init__(self) -> None:
        self._values: list[tuple[str, str, float]] = []

    def add(self, name: str, values: Tensor, samples: Sequence[str] | None = None) -> None:
        """Take in one value per sample (B,)."""
        each = values.double().tolist()
        named = samples if samples is not None else [""] * len(each)
        self._values += [(name, sample, value) for sample, value in zip(named, each, strict=True)]

    def over_processes(self, *, alone: bool = False) -> Averaged:
        """Of the samples of all processes, in whatever order they come."""
        parts = [self._values] if alone else processes.from_all(self._values)
        by_name: dict[str, list[float]] = defaultdict(list)
        by_sample: dict[str, list[float]] = defaultdict(list)
        for name, sample, value in (one for part in parts for one in part):
            by_name[name].append(value)
            if sample:
                by_sample[f"{name}/{sample}"].append(value)
        every = [value for values in by_name.values() for value in values]
        return Averaged(_mean(every), _means(by_name), _means(by_sample))


def _means(values: Mapping[str, Sequence[float]]) -> dict[str, float]:
    return {name: _mean(values[name]) for name in sorted(values)}


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values) if values else math.nan
