"""How processes share what a look at held-out samples takes, and what comes of it: means by name, the same on all."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TypeVar

import torch
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


class Means:
    """Means over samples by name, and over all samples."""

    def __init__(self) -> None:
        self.sums: dict[str, tuple[float, int]] = {}

    def add(self, name: str, values: Tensor) -> None:
        """Take in one value per sample (B,)."""
        total, number = self.sums.get(name, (0.0, 0))
        self.sums[name] = (total + float(values.double().sum()), number + len(values))

    def over_processes(self, *, alone: bool = False) -> tuple[float, Mapping[str, float]]:
        """The mean over all samples, and those by name; nan where there are none."""
        found = [self.sums] if alone else processes.from_all(self.sums)
        totals: dict[str, tuple[float, int]] = {}
        for name, (total, number) in (pair for one in found for pair in one.items()):
            before = totals.get(name, (0.0, 0))
            totals[name] = (before[0] + total, before[1] + number)
        pairs = torch.tensor([*totals.values()], dtype=torch.float64).reshape(-1, 2).sum(dim=0)
        return float(pairs[0] / pairs[1]), {
            name: totals[name][0] / totals[name][1] for name in sorted(totals)
        }
