"""What a stage says about itself: numbers for people, DVC and MLflow, in one JSON file."""

from dataclasses import asdict, dataclass, field
from pathlib import Path

from components.artifacts import read_json, write_json

Number = int | float
OPTIONAL = {"balance", "looks", "quarantine"}  # left out where a stage has none


@dataclass(frozen=True)
class Report:
    """Result of a stage. `metrics` are flat numbers; `counts` must balance where a stage drops items.

    `reasons` maps a reason code to the number of items that carry it; `notes` are sentences for the reader.
    `quarantine` names samples that training could not use; `reelforge data quarantine` takes them out of the next data.
    `looks` are the metrics of the averaged weights at some steps of training, a row each.
    `balance` says for each kind of item what became of all that went in: `{"clips": {"in": 9, "kept": 8, ...}}`.
    """

    stage: str
    metrics: dict[str, Number] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    reasons: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    balance: dict[str, dict[str, int]] = field(default_factory=dict)
    quarantine: list[dict[str, str]] = field(default_factory=list)
    looks: list[dict[str, float]] = field(default_factory=list)

    def write(self, path: Path) -> None:
        facts = asdict(self)
        write_json(path, {name: value for name, value in facts.items() if value or name not in OPTIONAL})

    @classmethod
    def read(cls, path: Path) -> "Report":
        return cls(**read_json(path))
