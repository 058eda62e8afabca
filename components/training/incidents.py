"""What became of broken steps: a file beside the checkpoints that outlives kills, and what is said of them.

A line is written when the run has gone back and before it goes on, so a run that is killed afterwards leaves out the
same batches. The stage's report hands the samples on to curation: `reelforge data quarantine` moves them into
registry/quarantine.jsonl, which the filter reads.
"""

import json
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from components.training.sentinel import Finding, Measured

FILE = "incidents.jsonl"
SHOWN = 12  # samples in a message


@dataclass(frozen=True)
class Incident:
    """One broken step. Numbers that are not finite are None, as JSON has none such."""

    step: int  # that was not applied, from 1
    reason: str
    loss: float | None
    grad_norm: float | None
    usual_loss: float | None
    usual_norm: float | None
    clips: tuple[str, ...]
    left_out: tuple[int, ...]  # sets of batches, see `Detour`
    back_to: int  # optimizer steps of the state that the run went back to
    counts: bool = True  # False where all samples had been named before: no retry is used up
    series: str = ""  # of values that the step was judged by, see `sentinel`

    @classmethod
    def of(
        cls,
        step: int,
        finding: Finding,
        measured: Measured,
        clips: Sequence[str],
        *,
        left_out: Sequence[int],
        back_to: int,
        counts: bool,
    ) -> "Incident":
        return cls(
            step,
            finding.reason,
            loss=_finite(measured.loss),
            grad_norm=_finite(measured.norm),
            usual_loss=finding.usual_loss,
            usual_norm=finding.usual_norm,
            clips=tuple(clips),
            left_out=tuple(left_out),
            back_to=back_to,
            counts=counts,
            series=finding.series,
        )

    def text(self) -> str:
        """In a sentence."""
        usual = f", usually {_said(self.usual_loss)} and {_said(self.usual_norm)}"
        series = f" ({self.series})" if self.series else ""
        more = f" and {len(self.clips) - SHOWN} more" if len(self.clips) > SHOWN else ""
        return (
            f"step {self.step} has loss {_said(self.loss)} and gradient norm {_said(self.grad_norm)}"
            f"{usual if self.usual_loss is not None else ''}: {self.reason}{series}."
            f" Clips: {', '.join(self.clips[:SHOWN]) or 'not named'}{more}"
        )


def named_samples(incidents: Iterable[Incident]) -> list[dict[str, str]]:
    """The clips of incidents, each with the reason it was first named for."""
    reasons: dict[str, str] = {}
    for incident in incidents:
        for clip in incident.clips:
            reasons.setdefault(clip, f"step {incident.step}: {incident.reason}")
    return [{"clip": clip, "reason": reason} for clip, reason in sorted(reasons.items())]


class IncidentFile:
    """The incidents of one piece of work; lines of other work are left alone. One process writes."""

    def __init__(self, folder: Path, fingerprint: str) -> None:
        self.path = folder / FILE
        self.fingerprint = fingerprint

    def read(self) -> list[Incident]:
        """The incidents so far, in their order."""
        rows = [row for line in self._lines() if (row := _row(line)) is not None]
        mine = [row for row in rows if row.pop("fingerprint") == self.fingerprint]
        return [Incident(**row | {name: tuple(row[name]) for name in ("clips", "left_out")}) for row in mine]

    def append(self, incident: Incident) -> None:
        """Add one, which is on disk when this returns."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        kept = [line for line in self._lines() if _row(line) is not None]
        partial = self.path.with_name(f".{self.path.name}.partial")
        with partial.open("w") as stream:
            row = {"fingerprint": self.fingerprint, **asdict(incident)}
            stream.write("".join(f"{line}\n" for line in [*kept, json.dumps(row)]))
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(self.path)

    def _lines(self) -> list[str]:
        return self.path.read_text().splitlines() if self.path.is_file() else []


def _row(line: str) -> dict[str, Any] | None:
    """None for a line that a kill left torn."""
    try:
        row: dict[str, Any] = json.loads(line)
    except ValueError:
        return None
    return row


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _said(value: float | None) -> str:
    return "nan" if value is None else f"{value:.4g}"
