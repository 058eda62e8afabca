"""Resumable state of a training stage: written whole or not at all, and only taken up by the same work.

A checkpoint is a folder that gets its name when everything in it is on disk. Its fingerprint says which
configuration and which inputs it belongs to; checkpoints with another one are removed, since DVC would
otherwise record weights that the recorded inputs did not make.
"""

import logging
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel
from torch import Tensor

from components.artifacts import StagePaths, read_json, sha256_of, sha256_of_json, write_json
from components.errors import UserError
from components.training.ema import Ema
from components.training.engine import Engine

log = logging.getLogger(__name__)
KEPT = 2
FORMAT = 1
STATE = "state.json"
HARMLESS = {"log_steps", "checkpoint_steps"}  # may change while a run is paused
IDENTIFIED_BY_CLIPS = {"videos"}  # the clip table holds their digests; they may be terabytes


def fingerprint_of(config: BaseModel, paths: StagePaths) -> str:
    """Digest of what a stage's result follows from: its parameters and its inputs."""
    inputs = {name: sha256_of(paths.input(name)) for name in paths.inputs if name not in IDENTIFIED_BY_CLIPS}
    parameters = config.model_dump(mode="json", exclude=HARMLESS)
    return sha256_of_json({"format": FORMAT, "parameters": parameters, "inputs": inputs})


def remove_checkpoints(paths: StagePaths) -> None:
    """To be called when the stage's outputs are written."""
    shutil.rmtree(paths.checkpoints, ignore_errors=True)


@dataclass(frozen=True)
class Progress:
    """Where a run stands: finished optimizer steps, and the means that the next log step needs."""

    step: int
    window: dict[str, Any]


class Checkpoints:
    """The checkpoints of one stage. All processes call `save` and `load` together."""

    def __init__(self, folder: Path, fingerprint: str) -> None:
        self.folder = folder
        self.fingerprint = fingerprint

    def newest(self) -> Path | None:
        """The newest checkpoint of this fingerprint."""
        return next(reversed(self._complete()), None)

    def clear_others(self) -> None:
        """Remove what another configuration, other inputs or a kill has left. One process calls this."""
        states = [read_json(folder / STATE) for folder in self._folders()]
        if all(state["fingerprint"] == self.fingerprint for state in states):
            for partial in self.folder.glob(".step-*.partial"):
                shutil.rmtree(partial)
            return
        log.warning(
            "%s: %d checkpoints of other parameters or inputs are removed; this stage starts at step 0",
            self.folder,
            len(states),
        )
        shutil.rmtree(self.folder)

    def save(self, engine: Engine, ema: Ema, progress: Progress) -> None:
        """Write a checkpoint, then remove all but the newest ones."""
        final = self.folder / f"step-{progress.step:06d}"
        if final.is_dir():
            return
        partial = self.folder / f".{final.name}.partial"
        if engine.is_main:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
        engine.barrier()
        engine.save(partial)
        if engine.is_main or engine.config.zero_stage == 3:
            torch.save(ema.weights, partial / _ema_file(engine))
        engine.barrier()
        if engine.is_main:
            state = {
                "fingerprint": self.fingerprint,
                "step": progress.step,
                "window": progress.window,
                "world_size": engine.launch.world_size,
            }
            write_json(partial / STATE, state)
            _flush(partial)
            partial.replace(final)
            _sync(self.folder)
            for old in self._complete()[:-KEPT]:
                shutil.rmtree(old)
        engine.barrier()

    def load(self, folder: Path, engine: Engine, ema: Ema) -> Progress:
        """Put a checkpoint into engine and average. Raises `UserError` for another number of processes."""
        state = read_json(folder / STATE)
        if state["world_size"] != engine.launch.world_size:
            raise UserError(
                f"{folder} was written by {state['world_size']} processes and this run has"
                f" {engine.launch.world_size}; go on with as many, or remove {self.folder} to start again"
            )
        engine.load(folder)
        averaged: dict[str, Tensor] = torch.load(
            folder / _ema_file(engine), map_location="cpu", weights_only=True
        )
        ema.load(averaged)
        return Progress(state["step"], state["window"])

    def _folders(self) -> list[Path]:
        return sorted(folder for folder in self.folder.glob("step-*") if (folder / STATE).is_file())

    def _complete(self) -> list[Path]:
        return [f for f in self._folders() if read_json(f / STATE)["fingerprint"] == self.fingerprint]


def _ema_file(engine: Engine) -> str:
    """Under ZeRO 3 every process has an average of its own shards."""
    return f"ema-{engine.launch.rank if engine.config.zero_stage == 3 else 0}.pt"


def _flush(folder: Path) -> None:
    """Have everything below a folder on disk."""
    for path in (*folder.rglob("*"), folder):
        _sync(path)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
