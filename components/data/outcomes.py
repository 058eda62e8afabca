"""What may become of one item, wherever it was worked on: the contract of the local pool and of the cluster."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Generic, TypeVar

Out = TypeVar("Out")


class Outcome(StrEnum):
    """What became of one item."""

    OK = "ok"
    REJECTED = "rejected"
    CRASHED = "crashed"
    TIMED_OUT = "timed_out"


@dataclass(frozen=True)
class Result(Generic[Out]):
    """Outcome of one item. `value` is set when it is OK; `reason` is a code, `detail` a sentence otherwise."""

    outcome: Outcome
    value: Out | None = None
    reason: str = ""
    detail: str = ""


class RejectedError(Exception):
    """Raised by the work on an item that is bad data: the item is rejected with this reason, the run goes on."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}" if self.detail else self.reason


@dataclass(frozen=True)
class Limits:
    """How many workers, how many seconds one item may take, and where the workers are."""

    workers: int
    item_seconds: float
    cluster: str | None = None  # address of a Ray cluster; None: this machine
    gpus: float = 0.0  # that each worker holds there; a share of one below 1
    cluster_seconds: float = 60.0  # that the first worker there may take to start


def reason_counts(results: Sequence[Result[Any]]) -> dict[str, int]:
    """Number of items per reason, for a report; items that are OK are not in it."""
    return dict(sorted(Counter(result.reason for result in results if result.reason).items()))
