"""What a stage says about itself: numbers for people, DVC and MLflow, in one JSON file."""

from dataclasses import asdict, dataclass, field
from pathlib import Path

from components.artifacts import read_json, write_json

Number = int | float


@dataclass(frozen=True)
class Report:
    """Result of a stage. `metrics` are flat numbers; `counts` must balance where a stage drops items.

    `reasons` maps a reason code to the number of items that carry it; `notes` are sentences for the reader.
    """

    stage: str
    metrics: dict[str, Number] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    reasons: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def write(self, path: Path) -> None:
        write_json(path, asdict(self))

    @classmethod
    def read(cls, path: Path) -> "Report":
        return cls(**read_json(path))
