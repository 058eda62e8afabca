"""How long a run still takes: what the stages took before, scaled by how fast this run is.

Before the first run in a workspace the seconds measured for the small default are used (docs/measurements.md),
so the first estimates are corrected by the stages that have finished.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path

from components.artifacts import write_json

SHIPPED = Path(__file__).with_name("expected_seconds.json")
REMEMBERED = Path(".dvc") / "tmp" / "reelforge-seconds.json"
UNKNOWN_SECONDS = 10.0


@dataclass
class Eta:
    """Remaining seconds of the stages that must run."""

    root: Path
    waiting: list[str] = field(default_factory=list)
    expected: dict[str, float] = field(default_factory=dict)
    taken: dict[str, float] = field(default_factory=dict)

    def plan(self, stages: list[str]) -> None:
        self.waiting = list(stages)
        remembered = self.root / REMEMBERED
        self.expected = json.loads(SHIPPED.read_text())
        if remembered.exists():
            self.expected |= json.loads(remembered.read_text())

    def finished(self, stage: str, seconds: float, *, ran: bool) -> None:
        self.waiting = [name for name in self.waiting if name != stage]
        if ran:
            self.taken[stage] = seconds

    def pace(self) -> float:
        """This run's seconds per expected second, drawn towards 1 while little is known."""
        known = sum(self.expected.get(stage, UNKNOWN_SECONDS) for stage in self.taken)
        return (sum(self.taken.values()) + UNKNOWN_SECONDS) / (known + UNKNOWN_SECONDS)

    def left(self, current: str, share_done: float) -> float:
        """Seconds until the last stage ends; `share_done` is how much of `current` is behind us."""
        seconds = sum(self.expected.get(stage, UNKNOWN_SECONDS) for stage in self.waiting)
        if current in self.waiting:
            seconds -= share_done * self.expected.get(current, UNKNOWN_SECONDS)
        return seconds * self.pace()

    def remember(self) -> None:
        """Keep what this run's stages took, for the next estimate."""
        path = self.root / REMEMBERED
        known = json.loads(path.read_text()) if path.exists() else {}
        write_json(path, known | {stage: round(seconds, 1) for stage, seconds in self.taken.items()})
