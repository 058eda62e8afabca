"""What a run has found on its way, kept on disk as it grows: the training curve, and the looks at the averaged weights.

Rows lie beside the checkpoints as JSON lines, so a killed run still has them. Those of the curve, one per log step, are
means over the steps since the last one; when the stage has finished they become the CSV that `dvc plots` draws, with
the columns that are the same in every run of the same inputs.
"""

import csv
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

CURVE, LOOKS = "curve.jsonl", "looks.jsonl"  # beside the checkpoints
COLUMNS = ("step", "loss", "grad_norm", "lr")


class Window:
    """Means over the steps between two log steps; its state goes into checkpoints.

    A name is averaged over the steps that had it: the loss on videos over the batches of videos.
    """

    def __init__(self, state: Mapping[str, Any] | None = None) -> None:
        self.counts: dict[str, int] = dict(state["counts"]) if state else {}
        self.sums: dict[str, float] = dict(state["sums"]) if state else {}

    def add(self, values: Mapping[str, float]) -> None:
        """Take in one step."""
        for name, value in values.items():
            self.counts[name] = self.counts.get(name, 0) + 1
            self.sums[name] = self.sums.get(name, 0.0) + value

    def take(self) -> dict[str, float]:
        """The means; the window is empty afterwards."""
        means = {name: total / self.counts[name] for name, total in self.sums.items()}
        self.counts, self.sums = {}, {}
        return means

    def state(self) -> dict[str, Any]:
        """For JSON, which keeps every digit."""
        return {"counts": self.counts, "sums": self.sums}


@dataclass(frozen=True)
class Row:
    """One row; `step` counts finished optimizer steps."""

    step: int
    loss: float
    grad_norm: float
    lr: float


@dataclass(frozen=True)
class Look:
    """What was found in the averaged weights after `step` steps; see `program.Found`."""

    step: int
    metrics: dict[str, float]
    score: float | None
    clips: dict[str, float]


Line = TypeVar("Line", Row, Look)


class Lines(Generic[Line]):
    """Rows in a file of JSON lines. `resume_at` drops what a later step had written before the run was cut."""

    def __init__(self, path: Path, kind: type[Line], *, resume_at: int) -> None:
        self.path = path
        self.rows: list[Line] = [row for row in _read(path, kind) if row.step <= resume_at]
        path.parent.mkdir(parents=True, exist_ok=True)
        self.go_back(resume_at)

    def go_back(self, step: int) -> None:
        """Drop the rows after a step, which will be made again; a run that is killed meanwhile loses no other."""
        self.rows = [row for row in self.rows if row.step <= step]
        partial = self.path.with_name(f".{self.path.name}.partial")
        partial.write_text("".join(_line(row) for row in self.rows))
        partial.replace(self.path)

    def append(self, row: Line) -> None:
        """Add a row, which is in the file when this returns."""
        self.rows.append(row)
        with self.path.open("a") as stream:
            stream.write(_line(row))


def write_csv(rows: Sequence[Row], path: Path) -> None:
    """Write rows for `dvc plots`, atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("w", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(
            (row.step, f"{row.loss:.6g}", f"{row.grad_norm:.6g}", f"{row.lr:.6g}") for row in rows
        )
    partial.replace(path)


def reported(looks: Sequence[Look]) -> list[dict[str, float]]:
    """Looks as rows of a stage's report: what was a number."""
    return [
        {"step": look.step, **{name: value for name, value in look.metrics.items() if math.isfinite(value)}}
        for look in looks
    ]


def best_of(looks: Sequence[Look]) -> Look | None:
    """The look with the lowest score, the first of equals; None where none has one."""
    scored = [(look.score, look) for look in looks if look.score is not None]
    return min(scored, key=lambda pair: pair[0])[1] if scored else None


def _line(row: Row | Look) -> str:
    return json.dumps(row.__dict__) + "\n"


def _read(path: Path, kind: type[Line]) -> list[Line]:
    """Rows up to the first line that a kill left torn."""
    rows: list[Line] = []
    for line in path.read_text().splitlines() if path.is_file() else ():
        try:
            rows.append(kind(**json.loads(line)))
        except (ValueError, TypeError):
            break
    return rows
