"""May a candidate go on to the full evaluation: the file between the stages `ladder`, `evaluate` and `gate`.

It holds the model and, where it may not go on, the reasons. It says no more of one that may, so that another champion's
ladder alone does not have a survivor evaluated again. A model that was turned away has this file in the folder of its
evaluation in place of a record, so that everybody who comes after knows why there are no scores.
"""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from components.artifacts import read_json, write_json

REJECTED_FILE = "rejected.json"


@dataclass(frozen=True)
class LadderVerdict:
    """`reasons` are sentences; `findings` the checks that failed, as those of the gate."""

    model_sha256: str  # of the pipeline folder
    survives: bool
    reasons: list[str] = field(default_factory=list)
    findings: list[dict[str, Any]] = field(default_factory=list)

    def write(self, path: Path) -> None:
        write_json(path, asdict(self))

    @classmethod
    def read(cls, path: Path) -> "LadderVerdict":
        return cls(**read_json(path))

    @classmethod
    def of_rejected(cls, evaluation: Path) -> "LadderVerdict | None":
        """What kept a model from being evaluated; None for an evaluation that took place."""
        path = evaluation / REJECTED_FILE
        return cls.read(path) if path.is_file() else None
