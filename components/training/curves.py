"""The training curve: one row per log step, kept on disk as it grows.

A row is the mean over the steps since the last one. The rows lie beside the checkpoints as JSON lines, so a
killed run still has its curve; when the stage has finished they become the CSV that `dvc plots` draws, with
the columns that are the same in every run of the same inputs.
"""

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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


class Curve:
    """Rows in a file of JSON lines. `resume_at` drops what a later step had written before the run was cut."""

    def __init__(self, path: Path, *, resume_at: int) -> None:
        self.path = path
        self.rows = [row for row in _read(path) if row.step <= resume_at]
        path.parent.mkdir(parents=True, exist_ok=True)
        self.go_back(resume_at)

    def go_back(self, step: int) -> None:
        """Drop the rows after a step, which will be made again."""
        self.rows = [row for row in self.rows if row.step <= step]
        self.path.write_text("".join(_line(row) for row in self.rows))

    def append(self, row: Row) -> None:
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


def _line(row: Row) -> str:
    return json.dumps(row.__dict__) + "\n"


def _read(path: Path) -> list[Row]:
    """Rows up to the first line that a kill left torn."""
    rows: list[Row] = []
    for line in path.read_text().splitlines() if path.is_file() else ():
        try:
            rows.append(Row(**json.loads(line)))
        except (ValueError, TypeError):
            break
    return rows
