"""How fast a run is, and how much of its time goes into waiting for data."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Pace:
    """Seconds per step, and those of them that were spent on data."""

    step_seconds: float
    wait_seconds: float


class Clock:
    """Time of the steps since the last log line, and of all; what lies between steps does not count."""

    def __init__(self) -> None:
        self.steps = self.all_steps = 0
        self.seconds = self.waited = self.all_seconds = 0.0

    def add(self, seconds: float, waited: float) -> None:
        self.steps += 1
        self.seconds += seconds
        self.waited += waited

    def take(self) -> Pace:
        steps = max(self.steps, 1)
        pace = Pace(self.seconds / steps, self.waited / steps)
        self.all_steps += self.steps
        self.all_seconds += self.seconds
        self.steps, self.seconds, self.waited = 0, 0.0, 0.0
        return pace

    def rate(self) -> float:
        return self.all_steps / self.all_seconds if self.all_seconds else 0.0
