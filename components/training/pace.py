"""How fast a run is, and how much of its time goes into waiting for data."""

from dataclasses import dataclass

from components.training.work import memory_gb

TERA, THOUSAND = 1e12, 1e3


@dataclass(frozen=True)
class Pace:
    """Seconds per step, and those of them that were spent on data."""

    step_seconds: float
    wait_seconds: float
    steps: int = 1  # that these are means of


@dataclass(frozen=True)
class Speed:
    """What a log line says: FLOPs and tokens are those of one process in a step, as a mean over the processes."""

    pace: Pace
    flops: float
    tokens: float
    peak: float | None  # FLOP/s of the device

    @property
    def mfu(self) -> float | None:
        """Share of the device's peak; None where that is not known, or the FLOPs are not."""
        return self.flops / self.pace.step_seconds / self.peak if self.peak and self.flops > 0 else None

    def text(self) -> str:
        """For the log: what is not known is left out."""
        seconds = self.pace.step_seconds
        parts = [f"{1 / seconds:.1f} steps/s", f"data {100 * self.pace.wait_seconds / seconds:.0f}%"]
        if self.flops > 0:  # and not unknown
            parts.append(f"{self.flops / seconds / TERA:.3g} TFLOP/s")
        if self.mfu is not None:
            parts.append(f"{100 * self.mfu:.0f}% MFU")
        if self.tokens > 0:
            parts.append(f"{self.tokens / seconds / THOUSAND:.3g}k tokens/s")
        return "  ".join([*parts, f"{memory_gb():.1f} GB"])

    def metrics(self) -> dict[str, float]:
        """For MLflow; per process."""
        seconds = self.pace.step_seconds
        found = {
            "perf/step_time_sec": seconds,
            "data/wait_sec": self.pace.wait_seconds,
            "perf/memory_gb": memory_gb(),
        }
        if self.flops > 0:  # and not unknown
            found["perf/tflops"] = self.flops / seconds / TERA
        if self.tokens > 0:
            found["perf/tokens_per_sec"] = self.tokens / seconds
        return found if self.mfu is None else {**found, "perf/mfu": self.mfu}


class Clock:
    """Time of the steps since the last log line; what lies between steps does not count."""

    def __init__(self) -> None:
        self.steps = 0
        self.seconds = self.waited = 0.0

    def add(self, seconds: float, waited: float) -> None:
        self.steps += 1
        self.seconds += seconds
        self.waited += waited

    def take(self) -> Pace:
        steps = max(self.steps, 1)
        pace = Pace(self.seconds / steps, self.waited / steps, steps)
        self.steps, self.seconds, self.waited = 0, 0.0, 0.0
        return pace
