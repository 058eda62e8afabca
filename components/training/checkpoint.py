"""Resumable state of a training stage: written beside training, whole or not at all, and for the same work only.

A step is interrupted for a copy to host memory; a thread writes it. A checkpoint is a folder that gets its name when
every process has its part on disk and `state.json` holds the sha256 of each file. Its fingerprint says which parameters
and inputs it belongs to. Those of other work are set aside, since DVC would otherwise record weights that the recorded
inputs did not make.
"""

import logging
import math
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from components.artifacts import StagePaths, read_json, write_json
from components.errors import UserError
from components.training import processes
from components.training.background import PAUSES, Background
from components.training.checkpoint_files import (
    BUFFER,
    Damaged,
    StoredTensors,
    Written,
    check_files,
    rank_file,
    read_state,
    sync,
    write_state,
    write_tensors,
)
from components.training.checkpoint_names import folders_in, name_of, step_of
from components.training.curves import CURVE, LOOKS
from components.training.ema import Ema
from components.training.engine import Engine
from components.training.fingerprint import Fingerprint, fingerprint_of
from components.training.host_copy import HostCopy
from components.training.resume import Choice
from components.training.sentinel import Detour
from components.training.shards import WEIGHT

log = logging.getLogger(__name__)
__all__ = ["Checkpoints", "Progress", "fingerprint_of", "remove_checkpoints"]
BEST = "best.json"
FOUND = (CURVE, LOOKS)  # by the run so far: they go with a checkpoint that is carried elsewhere
OTHERS_SECONDS = 3600.0  # rank 0 waits this long for the files of the others
GRACE_SECONDS = 20.0  # and this long when the run is over
LOOK_SECONDS = 0.05
WAY_OUT = (
    "Free space in {folder} or bring its storage back, then start the same stage again: it goes on from the last"
    " whole checkpoint"
)


def remove_checkpoints(paths: StagePaths) -> None:
    """To be called when the stage's outputs are written."""
    shutil.rmtree(paths.checkpoints, ignore_errors=True)


@dataclass(frozen=True)
class Progress:
    """Where a run stands after `step` optimizer steps."""

    step: int
    window: Mapping[str, Any]  # the means that the next log step needs
    rows: int = 0  # of the curve
    epoch: int | None = None  # of the data, where the program counts them
    score: float | None = None  # the lowest is best
    sentinel: Mapping[str, Any] = field(default_factory=dict)  # see `Guard.state`


class Checkpoints:
    """The checkpoints of one stage. All processes call each method together."""

    def __init__(
        self,
        folder: Path,
        fingerprint: Fingerprint,
        *,
        keep_last_n: int = 2,
        pauses: Sequence[float] | None = None,
    ) -> None:
        self.folder = folder
        self.fingerprint = fingerprint
        self.keep_last_n = keep_last_n
        self.writer = Background(PAUSES if pauses is None else pauses)
        self._memory = HostCopy()
        self._saved: int | None = None  # step of the newest checkpoint, written or being written
        self.stall_seconds = 0.0  # that training has waited for checkpoints

    def choose(self, resume: str = "latest") -> Path | None:
        """The checkpoint to go on from: `latest`, `best`, a step, a folder, or None for `none` and where there is none.

        What this run will not go on from and could mix up with its own is set aside. Raises `UserError` for a
        checkpoint that is not there, is damaged or belongs to other work; under `latest` a damaged one is named in the
        log and the one before it is taken.
        """
        main = torch.distributed.get_rank() == 0
        choice = Choice(self.folder, self.fingerprint, resume)
        candidates = processes.from_main(choice.candidates() if main else [])
        for folder in candidates:
            problem = _problem(folder)
            if problem is None:
                if main:
                    choice.set_aside_newer_than(folder)
                processes.barrier()
                return folder
            log.error("%s; this checkpoint is not used", problem)
        if candidates:
            raise UserError(
                f"no checkpoint in {self.folder} is whole; bring one back from a backup, or remove the folder to"
                " start again at step 0"
            )
        return None

    def back_to(self, step: int) -> Path | None:
        """The newest whole checkpoint of at most `step` steps, None where there is none; newer ones are set aside."""
        self.wait()
        choice = Choice(self.folder, self.fingerprint, "latest")
        candidates = processes.from_main(choice.up_to(step))
        folder = next((one for one in candidates if _problem(one) is None), None)
        if folder is not None:
            if processes.rank() == 0:
                choice.set_aside_newer_than(folder)
            processes.barrier()
        return folder

    def save(self, engine: Engine, ema: Ema, progress: Progress) -> None:
        """Copy the state and begin to write it; waits for the checkpoint before it.

        Raises `UserError` where that one could not be written.
        """
        if self._saved == progress.step:
            return
        started = time.perf_counter()
        self.writer.wait()
        partial = self.folder / f".{name_of(progress.step)}.partial"
        said = (
            f"writing checkpoint {self.folder / name_of(progress.step)}",
            WAY_OUT.format(folder=self.folder),
        )
        if engine.is_main:
            self.writer.start(lambda: _make_anew(partial), *said)  # there, since it tries again
            self.writer.wait()
        state = self._state(engine, progress)
        part = self._part(engine, ema)
        processes.barrier()
        self.writer.start(lambda: self._write(partial, part, state), *said)
        self._saved = progress.step
        self.stall_seconds += time.perf_counter() - started

    def check(self) -> None:
        """Raises `UserError` on all processes where one could not write its part."""
        if processes.mean([float(self.writer.failed)])[0] > 0:
            self.writer.check()
            raise UserError(
                "another process could not write its part of a checkpoint and says why in its own log."
                f" {WAY_OUT.format(folder=self.folder)}"
            )

    def wait(self) -> None:
        """Until the last checkpoint is on disk. Raises as `save`."""
        self.writer.wait()
        processes.barrier()

    def load(self, folder: Path, engine: Engine, ema: Ema) -> Progress:
        """Put a checkpoint into engine and averages, whatever number of processes and ZeRO stage wrote it."""
        stored = StoredTensors(folder)
        found, expected = stored.shapes, engine.shapes()
        if found != expected:
            differing = sorted(name for name in {*found, *expected} if found.get(name) != expected.get(name))
            raise UserError(
                f"{folder} is of a model with other trained parameters: {', '.join(differing[:6])}; remove"
                f" {self.folder} to start again, or give it to `start_weights` to take the weights alone"
            )
        engine.shards.load(stored)
        engine.load_buffers(stored.buffers())
        ema.load(engine.shards, stored)
        state = stored.state
        own = folder.parent == self.folder
        if engine.is_main and not own:
            _copy_found(folder, self.folder)
        self._saved = state["step"] if own else None
        window = _window_of(state["window"], engine.launch.rank, engine.launch.world_size)
        return Progress(
            state["step"], window, state["rows"], state["epoch"], state["score"], state["sentinel"]
        )

    def steps(self) -> set[int]:
        """Those that have a checkpoint. The best look may not: one that undid it may itself be undone by going back."""
        return {step_of(folder) for folder in folders_in(self.folder)}

    def load_averages(self, step: int, engine: Engine, ema: Ema) -> None:
        """Put the averages of a finished checkpoint of this run in place of the present ones."""
        stored = StoredTensors(self.folder / name_of(step))
        engine.load_buffers(stored.buffers())
        ema.load(engine.shards, stored)

    def close(self) -> None:
        """Let a checkpoint that is being written become whole; an error is only logged."""
        self.writer.close()

    def _part(self, engine: Engine, ema: Ema) -> "_Part":
        """This process's tensors in host memory."""
        kinds = {WEIGHT: engine.weights()} | ema.state()
        live = {f"{kind}/{name}": value for kind, values in kinds.items() for name, value in values.items()}
        first = {shard.name: shard.start for shard in engine.shards.own}
        starts = {key: first[key.partition("/")[2]] for key in live}
        kept = engine.shards.kept()
        live |= {key: value for key, (value, _) in kept.items()}
        starts |= {key: start for key, (_, start) in kept.items()}
        if engine.is_main:
            live |= {f"{BUFFER}/{name}": value for name, value in engine.buffers().items()}
        return _Part(
            engine.launch.rank, engine.launch.world_size, self._memory.take(live, flat=set(starts)), starts
        )

    def _state(self, engine: Engine, progress: Progress) -> dict[str, Any]:
        config = engine.config
        here = asdict(progress)  # a copy: the window grows on while this is written
        known = processes.from_all((engine.shards.updates(), here["window"]))
        return {
            "fingerprint": self.fingerprint.digest,
            "contract": dict(self.fingerprint.contract),
            **here,
            "window": [window for _, window in known],
            "seed": config.seed,  # random numbers follow from (seed, position)
            "position": Detour(progress.sentinel.get("left_out", ())).place(progress.step)
            * engine.step_batches,  # of the next batch
            "step_batches": engine.step_batches,
            "world_size": engine.launch.world_size,
            "zero_stage": config.zero_stage,
            "ema": list(config.decays),
            "shapes": engine.shapes(),
            "adam_steps": {name: count for counts, _ in known for name, count in counts.items()},
        }

    def _write(self, partial: Path, part: "_Part", state: Mapping[str, Any]) -> None:
        """Write this process's file; rank 0 gives the checkpoint its name when all files are there."""
        final = self.folder / partial.name.removeprefix(".").removesuffix(".partial")
        if partial.is_dir():
            written = _write_part(partial, part)
            write_json(partial / f"rank-{part.rank:05d}.json", asdict(written))
            if part.rank:
                return
            _copy_found(self.folder, partial)
            write_state(partial, {**state, "files": self._files(partial, part.world_size)})
            sync(partial)
            shutil.rmtree(final, ignore_errors=True)
            partial.replace(final)
        sync(self.folder)
        for note in final.glob("rank-*.json"):  # until here another try would need those of the others
            note.unlink()
        self._keep()

    def _files(self, partial: Path, world_size: int) -> dict[str, Any]:
        """What every process says of its file."""
        waited, grace = 0.0, 0.0
        while True:
            notes = sorted(partial.glob("rank-*.json"))
            if len(notes) == world_size:
                return {rank_file(int(note.stem[5:])): read_json(note) for note in notes}
            if waited > OTHERS_SECONDS or grace > GRACE_SECONDS:
                raise OSError(
                    f"{world_size - len(notes)} of {world_size} processes have not written their part"
                )
            time.sleep(LOOK_SECONDS)
            waited += LOOK_SECONDS
            grace += LOOK_SECONDS if self.writer.closing.is_set() else 0.0

    def _keep(self) -> None:
        """Remove all but the newest checkpoints and the best."""
        states = {}
        for folder in folders_in(self.folder):
            try:
                states[folder] = read_state(folder)
            except Damaged as error:
                log.warning("%s", error)
        scored = {folder: state["score"] for folder, state in states.items() if _finite(state["score"])}
        best = min(scored, key=lambda folder: scored[folder], default=None)
        if best is not None:
            write_json(self.folder / BEST, {"step": states[best]["step"], "score": scored[best]})
        for folder in list(states)[: -self.keep_last_n]:
            if folder != best:
                shutil.rmtree(folder)


@dataclass(frozen=True)
class _Part:
    """One process's file in memory."""

    rank: int
    world_size: int
    tensors: Mapping[str, Tensor]
    starts: Mapping[str, int]


def _make_anew(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)


def _copy_found(source: Path, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for name in FOUND:
        if (source / name).is_file():
            shutil.copyfile(source / name, target / name)


def _write_part(folder: Path, part: _Part) -> Written:
    path = folder / rank_file(part.rank)
    try:
        return write_tensors(path, part.tensors, part.starts)
    except OSError:
        path.unlink(missing_ok=True)  # a full disk needs the space
        raise


def _problem(folder: Path) -> str | None:
    """What is wrong with a checkpoint; each process looks at its share of the files."""
    problem = None
    try:
        files = sorted(read_state(folder)["files"].items())
        mine = slice(torch.distributed.get_rank(), None, torch.distributed.get_world_size())
        check_files(folder, dict(files[mine]))
    except Damaged as error:
        problem = str(error)
    return next((said for said in processes.from_all(problem) if said), None)


def _window_of(windows: Sequence[Mapping[str, Any]], rank: int, world_size: int) -> Mapping[str, Any]:
    """A process's means since the last log step; on another number of processes each goes on from their mean."""
    if len(windows) == world_size:
        return windows[rank]
    mean: dict[str, dict[str, float]] = {}
    for window in windows:
        for part, values in window.items():
            summed = mean.setdefault(part, {})
            for name, value in values.items():
                summed[name] = summed.get(name, 0.0) + value / len(windows)
    return mean


def _finite(score: float | None) -> bool:
    return score is not None and math.isfinite(score)
