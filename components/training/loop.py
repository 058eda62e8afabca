"""The training loop of every stage: steps, average, log lines, curve, checkpoints, and a clean way to stop.

A run that was cut at any moment and started again ends with the same weights, bit for bit in float32 on one
process: batches and random numbers follow from (seed, position), and everything else is in the checkpoint.
"""

import hashlib
import logging
import math
import time
from collections.abc import Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass, field

import torch

from components import runtime, tracking
from components.artifacts import StagePaths
from components.errors import Interruption, UserError
from components.params import runtime_of
from components.progress import progress
from components.training import processes
from components.training.checkpoint import Checkpoints, Progress
from components.training.config import LoopConfig
from components.training.curves import CURVE, LOOKS, Lines, Look, Row, Window, best_of, reported, write_csv
from components.training.ema import Ema
from components.training.engine import Engine, readers
from components.training.fingerprint import Fingerprint
from components.training.guard import Guard
from components.training.incidents import Incident, named_samples
from components.training.interrupts import StopRequest, stop_requests
from components.training.pace import Clock, Speed
from components.training.program import Check, CountsSteps, Found, Program, StepResult
from components.training.resume import settled
from components.training.schedule import learning_rate
from components.training.sentinel import Batch
from components.training.start_weights import put_start_weights
from components.training.watchdog import Watchdog, dump_path
from components.training.work import WorkMeter, peak_flops

log = logging.getLogger(__name__)
NOTICE_SECONDS = 60  # a process that hangs writes its stacks before the others give up on it


@dataclass(frozen=True)
class TrainResult:
    """What a training run came to. `first` and `last` are rows of the curve: means over `log_steps` steps."""

    steps: int
    resumed_at: int  # 0: ran from the start
    first: Row
    last: Row
    parameters: int  # trained ones
    stall_seconds: float = 0.0  # that training has waited for checkpoints
    incidents: tuple[Incident, ...] = ()  # broken steps, whose samples curation is to hear of
    looks: tuple[Look, ...] = ()  # at the averaged weights; of rank 0 alone
    used: int = 0  # the step whose averages the module holds
    # decay -> by name
    other_averages: Mapping[float, Mapping[str, torch.Tensor]] = field(default_factory=dict)

    def metrics(self) -> dict[str, float]:
        """For the stage's report: what is equal in every run of the same inputs."""
        return {
            "steps": self.steps,
            "parameters": self.parameters,
            "first_loss": self.first.loss,
            "loss": self.last.loss,
            "grad_norm": self.last.grad_norm,
            **self._of_used(),
        }

    def _of_used(self) -> dict[str, float]:
        """The metrics of the averages that are exported, where they were looked at."""
        (row,) = [row for row in reported(self.looks) if row["step"] == self.used] or [{}]
        return {"used_step" if name == "step" else name: value for name, value in row.items()}

    def quarantine(self) -> list[dict[str, str]]:
        """For the stage's report: the samples of broken steps, each once."""
        return named_samples(self.incidents)


def train(
    program: Program,
    config: LoopConfig,
    paths: StagePaths,
    *,
    fingerprint: Fingerprint,
    title: str,
    resume: str | None = None,
    checks: Sequence[Check] = (),
) -> TrainResult:
    """Train `program.module`, which holds the averaged weights afterwards, and write `paths.output("curve")`.

    Goes on from the checkpoint that `resume` names (see `Checkpoints.choose`; None: what the process was started
    with, or else the newest with the same fingerprint). Checkpoints stay until the caller, having written its outputs,
    calls `remove_checkpoints`. A step with a loss or gradient that is not finite, or far above its recent values, is
    not applied (see `guard`). Raises `UserError` where that happens too often, and `Interruption` after SIGINT or
    SIGTERM and a checkpoint. `checks` look at the averaged weights now and then; under `use: best` they decide which
    of them the module ends with, and `UserError` is raised where none of them can.
    """
    asked = [check for check in checks if check.every]
    _check_use(config, asked, title)
    stacks = dump_path(paths.checkpoints, attempt=runtime.attempt() or 0, rank=processes.rank())
    with closing(Watchdog(stacks, runtime_of(paths.root).hang_minutes * 60)) as watchdog:
        run = _Run(program, config, paths, title, (fingerprint, resume or runtime.resume()), watchdog)
        run.checks = asked
        try:
            with stop_requests() as request:
                run.to_the_end(request)
            return run.finish()
        finally:
            run.checkpoints.close()
            run.engine.close()


def seed_of(seed: int, position: int) -> int:
    """Seed of the random numbers at a position, unrelated to those of its neighbours."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{position}".encode()).digest()[:8], "big") >> 1


class _Run:
    """One run of a stage."""

    def __init__(
        self,
        program: Program,
        config: LoopConfig,
        paths: StagePaths,
        title: str,
        resume: tuple[Fingerprint, str],
        watchdog: Watchdog,
    ) -> None:
        processes.join(patience_seconds=watchdog.seconds + NOTICE_SECONDS)
        self.watchdog = watchdog
        self.checkpoints = Checkpoints(paths.checkpoints, resume[0], keep_last_n=config.keep_last_n)
        newest = self.checkpoints.choose(resume[1])
        config = settled(config, newest, readers=readers(config)[0])
        self.program, self.config, self.paths, self.title = program, config, paths, title
        self.parameters = sum(p.numel() for p in program.module.parameters() if p.requires_grad)
        if newest is None and config.start_weights is not None:
            put_start_weights(program.module, paths.root / config.start_weights)
        self.meter = WorkMeter(program.module)
        watchdog.follow(program.module)
        self.peak = peak_flops(bf16=runtime.resolve_precision(config.precision) == "bf16")
        self.engine = Engine(program.module, config)  # under ZeRO 3 parameters are shards from here on
        if isinstance(program, CountsSteps):
            program.step_batches = self.engine.step_batches
        self.ema = Ema(self.engine.weights(), config.decays)
        self.guard = Guard(config.sentinel, self.checkpoints, title, sharers=config.sequence_parallel)
        at = self.checkpoints.load(newest, self.engine, self.ema) if newest else Progress(0, {})
        self._take_up(at)
        self.resumed_at = at.step
        self.curve: Lines[Row] | None = None
        self.looks: Lines[Look] | None = None
        if self.engine.is_main:
            self.curve = Lines(paths.checkpoints / CURVE, Row, resume_at=at.step)
            self.looks = Lines(paths.checkpoints / LOOKS, Look, resume_at=at.step)
        self.checks: list[Check] = []
        self.score: float | None = None  # of the weights at this step, where a check has looked at them
        self.clock = Clock()
        log.info(
            "%s: %s parameters, %s, ZeRO %d, %s",
            title,
            f"{self.parameters:,}",
            runtime.resolve_precision(config.precision),
            config.zero_stage,
            f"resuming at step {at.step}/{config.steps}" if newest else f"{config.steps} steps",
        )

    def to_the_end(self, request: StopRequest) -> None:
        shown = self.engine.is_main and runtime.progress_style() != "lines"  # the log has lines of its own
        total = self.config.steps
        with progress(self.title, total) if shown else nullcontext(_no_bar) as advance:
            advance(self.step)
            while self.step < total:
                before = self.step
                loss = self.optimizer_step(request)
                advance(self.step - before, text=f"loss {loss:.4g}")
                self.watchdog.beat()
                self.checkpoints.check()
                if self.guard.stop_asked:
                    self._leave(request)
                if self.guard.refused:
                    continue
                self._look()
                if self.step % self.config.checkpoint_steps == 0 or self.step == total:
                    self.save()
            self.checkpoints.wait()

    def optimizer_step(self, request: StopRequest) -> float:
        """One step of the optimizer over `accumulation` batches per process; returns their mean loss.

        A broken step is not applied: the run is then where it goes on.
        """
        started = time.perf_counter()
        lr = learning_rate(self.config.optimizer, self.step, self.config.steps)
        results: list[StepResult] = []
        numbers: list[dict[str, float]] = []
        norm = 0.0
        place = self.guard.detour.place(self.step)

        def accept(norm: float) -> bool:
            numbers.extend(_numbers(results))
            batches = [
                Batch(found["loss"], result.kind, result.terms)
                for found, result in zip(numbers, results, strict=True)
            ]
            return self.guard.passes(self.step, batches, norm, stop_asked=request.signal is not None)

        for micro in range(self.config.accumulation):
            results.append(self._forward(place, micro))
            self.engine.backward(results[-1].loss)
            norm = self.engine.step(lr=lr, last=micro + 1 == self.config.accumulation, accept=accept)
        values = _means(numbers)
        if self.guard.refused:
            self._go_back(results)
            return values["loss"]
        self.ema.update(self.engine.weights(), self.step)
        self.step += 1
        self.score = None
        self.epoch = results[-1].epoch
        self.window.add({**values, "grad_norm": norm})
        self.clock.add(time.perf_counter() - started, sum(result.wait_seconds for result in results))
        if self.step % self.config.log_steps == 0 or self.step == self.config.steps:
            self._log(lr)
        return values["loss"]

    def _forward(self, place: int, micro: int) -> StepResult:
        batch = place * self.config.accumulation + micro
        position = batch * self.engine.readers + self.engine.reader
        seed = seed_of(self.config.seed, position)
        _seed_dropout(seed)  # what a program draws comes from the generator
        return self.program.step(self.engine.module, position, torch.Generator().manual_seed(seed))

    def _go_back(self, results: list[StepResult]) -> None:
        """Leave a broken step's batches out, and stand where the run goes on."""
        checkpoint = self.guard.go_back(self.step, results)
        if checkpoint is not None:
            self._take_up(self.checkpoints.load(checkpoint, self.engine, self.ema))
            for lines in (self.curve, self.looks):
                if lines is not None:
                    lines.go_back(self.step)

    def _take_up(self, at: Progress) -> None:
        """Stand where a checkpoint was written."""
        self.step = at.step
        self.epoch = at.epoch
        self.window = Window(at.window)
        self.guard.take_up(at.sentinel)

    def _log(self, lr: float) -> None:
        means = self.window.take()
        pace, work = self.clock.take(), self.meter.take()
        shared = pace.steps * self.config.sequence_parallel
        mine = [means["loss"], means["grad_norm"], work.flops / shared, work.tokens / shared]
        means["loss"], means["grad_norm"], flops, tokens = self.engine.mean(mine)
        if self.curve is None:
            return
        row = Row(self.step, means["loss"], means["grad_norm"], lr)
        self.curve.append(row)
        left = (self.config.steps - self.step) * pace.step_seconds
        speed = Speed(pace, flops, tokens, self.peak)
        log.info(
            "step %d/%d  loss %.4g  |g| %.2f  lr %.1e  %s  eta %.0f s",
            *(self.step, self.config.steps, row.loss, row.grad_norm, lr, speed.text(), left),
        )
        values = {f"train/{name}": value for name, value in means.items()}
        perf = {**speed.metrics(), "perf/checkpoint_stall_sec": self.checkpoints.stall_seconds}
        tracking.log_metrics({**values, "train/lr": lr, **perf}, self.step)

    def _look(self) -> None:
        """Take the looks that are due, at the averaged weights."""
        last = self.step == self.config.steps
        due = [check for check in self.checks if self.step % check.every == 0 or (last and check.scores)]
        if not due:
            return
        work = self.meter.total
        with self.engine.evaluating(self.ema.weights) as module:
            found = [check.look(module, self.step) for check in due]
        self.meter.total = work  # of training alone
        self.watchdog.beat()
        look = _together(self.step, found)
        self.score = look.score
        if self.looks is not None and look.metrics:
            self.looks.append(look)
            log.info("step %d/%d  %s", self.step, self.config.steps, _sentence(look.metrics))
            tracking.log_metrics(look.metrics, self.step)

    def save(self) -> None:
        rows = self.curve.rows if self.curve else []
        score = (
            self.score if any(check.scores for check in self.checks) else (rows[-1].loss if rows else None)
        )
        state = self.guard.state()
        here = Progress(self.step, self.window.state(), len(rows), self.epoch, score, state)
        self.checkpoints.save(self.engine, self.ema, here)

    def _leave(self, request: StopRequest) -> None:
        self.save()
        self.checkpoints.wait()
        number = request.signal or 15
        raise Interruption(
            f"stopped at step {self.step}/{self.config.steps} on request; the checkpoint is in"
            f" {self.paths.checkpoints}. Start the same stage again to go on from there",
            exit_code=128 + number,
        )

    def finish(self) -> TrainResult:
        used = self._take_best()
        first_decay, *others = self.ema.averages.items()
        averages = {decay: self.engine.whole(average) for decay, average in others}
        self.meter.close()
        self.engine.release(first_decay[1])
        first = last = Row(self.step, 0.0, 0.0, 0.0)
        if self.curve is not None:  # one process writes it
            write_csv(self.curve.rows, self.paths.output("curve"))
            first, last = self.curve.rows[0], self.curve.rows[-1]
        return TrainResult(
            *(self.step, self.resumed_at, first, last, self.parameters),
            stall_seconds=self.checkpoints.stall_seconds,
            incidents=tuple(self.guard.incidents),
            looks=tuple(self.looks.rows) if self.looks else (),
            used=used,
            other_averages=averages,
        )

    def _take_best(self) -> int:
        """The step whose averages are exported. They are those of the last one, but where `use` says otherwise."""
        looks = self.looks.rows if self.looks is not None and self.config.use == "best" else []
        best = best_of([look for look in looks if look.step in self.checkpoints.steps()])
        step = processes.from_main(best.step if best else self.step)
        if step != self.step:
            log.info("%s: the averages of step %d are used, the best look's", self.title, step)
            self.checkpoints.load_averages(step, self.engine, self.ema)
        return step


def _check_use(config: LoopConfig, checks: Sequence[Check], title: str) -> None:
    """Raises `UserError` where `use: best` could not be followed: no check, or looks that meet no checkpoint."""
    if config.use == "last":
        return
    scoring = [check for check in checks if check.scores]
    if not scoring:
        raise UserError(
            f"{title}: `use: best` needs something to choose by; set `ladder.steps` or `validation.steps`, or"
            " `use: last`"
        )
    for check in scoring:
        if check.every % config.checkpoint_steps:
            raise UserError(
                f"{title}: under `use: best` every look needs a checkpoint to go back to; {check.every} steps between"
                f" looks is no multiple of checkpoint_steps {config.checkpoint_steps}"
            )


def _together(step: int, found: Sequence[Found]) -> Look:
    metrics = {name: value for one in found for name, value in one.metrics.items()}
    clips = {name: value for one in found for name, value in one.clips.items()}
    scores = [one.score for one in found if one.score is not None and math.isfinite(one.score)]
    return Look(step, metrics, scores[0] if scores else None, clips)


def _seed_dropout(seed: int) -> None:
    """As `torch.manual_seed`, which keeps a stack trace for each device that is not there, at every call."""
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_available():
        torch.cuda.manual_seed_all(seed)


def _sentence(found: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {value:.4g}" for name, value in found.items())


def _numbers(results: Sequence[StepResult]) -> list[dict[str, float]]:
    """Loss and metrics of each batch; what is on a device comes from there in one piece."""
    named = [{"loss": result.loss, **result.metrics} for result in results]
    tensors = [value for found in named for value in found.values() if isinstance(value, torch.Tensor)]
    fetched = iter(torch.stack([value.detach().double().reshape(()) for value in tensors]).tolist())
    return [
        {name: next(fetched) if isinstance(value, torch.Tensor) else value for name, value in found.items()}
        for found in named
    ]


def _means(numbers: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Mean loss and metrics of the batches of one step."""
    totals: dict[str, float] = {}
    for found in numbers:
        for name, number in found.items():
            totals[name] = totals.get(name, 0.0) + number / len(numbers)
    return totals


def _no_bar(done: int = 1, text: str = "") -> None:
    """Where nobody watches there are log lines."""
