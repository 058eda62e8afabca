"""What a stage's ladder leaves behind: a file beside the weights, which goes with them into the pipeline and registry.

Each number names how it was measured, as scores do: a candidate is held against a champion's ladder only where both
were measured in the same way.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from components.artifacts import read_json, write_json
from components.errors import ContractError

FILE = "ladder.json"
VALIDATION_LOSS, TOY_FVD, TOY_KVD = "validation_loss", "toy_fvd", "toy_kvd"
MOTION_ENERGY, FLICKERING = "motion_energy", "temporal_flickering"


@dataclass(frozen=True)
class Rung:
    """One look. `clips`: the validation loss of single clips, kept for the best look and for the one that is used."""

    step: int
    metrics: dict[str, float]  # those that were numbers
    score: float | None  # the lowest is best
    clips: dict[str, float]


@dataclass(frozen=True)
class LadderRecord:
    """All looks of a run. The weights beside the file are those of the step `used`."""

    rule: dict[str, Any]  # the section `ladder` of the stage
    identities: dict[str, str]  # metric -> how it was measured
    used: int
    best: int | None
    rungs: list[Rung]

    def write(self, folder: Path) -> None:
        write_json(folder / FILE, asdict(self))

    @classmethod
    def read(cls, folder: Path) -> "LadderRecord | None":
        """None where no ladder was kept. Raises `ContractError` for a file of another version."""
        path = folder / FILE
        if not path.is_file():
            return None
        raw: Mapping[str, Any] = read_json(path)
        try:
            return cls(**{**raw, "rungs": [Rung(**rung) for rung in raw["rungs"]]})
        except (KeyError, TypeError) as error:
            raise ContractError(
                f"{path} is not a ladder of this version ({error}); run its stage again"
            ) from None

    def at(self, step: int | None) -> Rung | None:
        """The look at a step."""
        return next((rung for rung in self.rungs if rung.step == step), None)
