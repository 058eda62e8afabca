"""A running pipeline in the terminal: a line per finished stage, one bar for the stage at work, the time left."""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from components.progress import Progress as StageProgress
from components.report import Report
from components.stages import STAGES
from flows.eta import Eta

HEADLINES = (  # what a person wants to know first
    "toy_fvd",
    "colour_accuracy",
    "motion_accuracy",
    "loss",
    "first_loss",
    "psnr",
    "kept",
    "passed",
    "usable",
    "clips",
)
OUR_WARNING = re.compile(r"\d\d:\d\d:\d\d  WARNING  (components|models)")  # not those of libraries
PLAIN_SECONDS = 10.0  # between lines where there is no terminal to draw on


def duration(seconds: float) -> str:
    """`75.2` -> `1 min 15 s`."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{int(seconds // 60)} min {int(seconds % 60):02d} s"


def headline(report: Report) -> str:
    """The few numbers of a report that fit on a line."""
    numbers = {**report.metrics, **report.counts}
    first = sorted(numbers, key=lambda key: HEADLINES.index(key) if key in HEADLINES else len(HEADLINES))
    return "  ".join(f"{key} {numbers[key]:.4g}" for key in first[:4])


class Display:
    """Observer that draws. Without a terminal it prints plain lines instead of a bar."""

    def __init__(self, console: Console, root: Path) -> None:
        self.console = console
        self.root = root
        self.eta = Eta(root)
        self.total = 0
        self.ran = 0
        self.cached = 0
        self.stage_started = 0.0
        self.last_plain = 0.0
        self.bar = Progress(
            TextColumn("[bold]{task.fields[stage]}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[text]}"),
            TimeElapsedColumn(),
            TextColumn("[dim]run: {task.fields[left]} left"),
            console=console,
            transient=True,
        )
        self.task = self.bar.add_task("run", total=1.0, stage="", text="", left="?", visible=False)

    def plan(self, stages: list[str], stale: set[str]) -> None:
        """Called once, with all stages and those that may have to run."""
        self.total = len(stages)
        waiting = [stage for stage in stages if stage in stale]
        self.eta.plan(waiting)
        if waiting:
            left = duration(self.eta.left("", 0.0))
            self.console.print(f"{len(waiting)} of {self.total} stages to run, about {left} on this machine")
        else:
            self.console.print(f"all {self.total} stages are up to date")

    def started(self, stage: str) -> None:
        self.stage_started = self.last_plain = time.monotonic()
        self._draw(stage, 0.0, "starting")

    def progressed(self, stage: str, progress: StageProgress) -> None:
        share = progress.done / max(progress.total, 1)
        text = f"{progress.title} {progress.done}/{progress.total}  {progress.text}"
        self._draw(stage, share, text)
        now = time.monotonic()
        if not self.console.is_terminal and now - self.last_plain > PLAIN_SECONDS:
            self.last_plain = now
            left = duration(self.eta.left(stage, share))
            self.console.print(
                f"  … {stage}  {text}  eta {duration(progress.left)}  (run: {left} left)",
                markup=False,
                soft_wrap=True,
            )

    def finished(self, stage: str, *, ran: bool, seconds: float) -> None:
        self.eta.finished(stage, seconds, ran=ran)
        self.bar.update(self.task, visible=False)
        if not ran:
            self.cached += 1
            return
        self.ran += 1
        report = self.root / STAGES[stage].report
        line = headline(Report.read(report)) if report.exists() else ""
        count = f"{self.ran + self.cached:2d}/{self.total}"
        self.console.print(
            f"[green]✓[/] {count} {stage:<24} [dim]{duration(seconds):>11}[/]  {line}",
            highlight=False,
            soft_wrap=True,
        )

    def said(self, stage: str, line: str) -> None:
        """Lines of a stage go to the Prefect log; warnings are worth showing here too."""
        if OUR_WARNING.match(line):
            self.console.print(f"  {stage}: {line}", style="yellow", markup=False, soft_wrap=True)

    def _draw(self, stage: str, share: float, text: str) -> None:
        left = duration(self.eta.left(stage, share))
        self.bar.update(self.task, completed=share, stage=stage, text=text, left=left, visible=True)

    @contextmanager
    def live(self) -> Iterator[None]:
        """Draw within the block; what the stages took is remembered also when it ends early."""
        try:
            if self.console.is_terminal:
                with self.bar:
                    yield
            else:
                yield
        finally:
            self.eta.remember()
