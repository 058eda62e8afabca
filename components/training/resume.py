"""Which checkpoint a run goes on from, and what becomes of those that it must not mix up with its own."""

import logging
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.artifacts import read_json
from components.errors import UserError
from components.training.checkpoint_files import STATE, Damaged, read_state
from components.training.checkpoint_names import folders_in, name_of, step_of
from components.training.config import LoopConfig
from components.training.fingerprint import Fingerprint

log = logging.getLogger(__name__)
SET_ASIDE = "set-aside"


@dataclass(frozen=True)
class Choice:
    """What was asked for: `latest`, `best`, `none`, a step, or a folder. Used by rank 0 alone."""

    folder: Path
    fingerprint: Fingerprint
    resume: str

    def candidates(self) -> list[Path]:
        """Checkpoints to try, the best choice first. Raises `UserError` for one that is not there or of other work."""
        self._clear_partials()
        if self.resume == "none":
            self._set_aside(self._folders())
            return []
        if self.resume == "latest":
            foreign = [folder for folder in self._folders() if self._is_foreign(folder)]
            self._set_aside(foreign)
            if foreign:
                log.warning(
                    "%d checkpoints of other parameters or inputs are set aside in %s; this stage starts at step 0",
                    len(foreign),
                    self.folder / SET_ASIDE,
                )
            return list(reversed(self._folders()))
        return [self._asked_for()]

    def up_to(self, step: int) -> list[Path]:
        """Checkpoints of this work with at most so many steps, the newest first."""
        found = [
            folder for folder in self._folders() if step_of(folder) <= step and not self._is_foreign(folder)
        ]
        return list(reversed(found))

    def set_aside_newer_than(self, chosen: Path) -> None:
        """Keep checkpoints that this run would otherwise meet again: damaged ones, and steps it is going to redo."""
        if chosen.parent == self.folder:
            self._set_aside([folder for folder in self._folders() if step_of(folder) > step_of(chosen)])

    def _asked_for(self) -> Path:
        if self.resume == "best":
            folder = self.folder / name_of(self._best_step())
        elif self.resume.isdigit():
            folder = self.folder / name_of(int(self.resume))
        else:
            folder = Path(self.resume)
        if not (folder / STATE).is_file():
            have = ", ".join(str(step_of(path)) for path in self._folders()) or "none"
            raise UserError(f"there is no checkpoint {folder}; steps in {self.folder}: {have}")
        if self._is_foreign(folder):
            theirs = read_json(folder / STATE).get("contract", {})
            raise UserError(
                f"{folder} belongs to other work: {self.fingerprint.differences(theirs)}. Restore these parameters and"
                " inputs to go on from it, or name it in `start_weights` to take its weights alone"
            )
        return folder

    def _best_step(self) -> int:
        scores: dict[int, float] = {}
        for folder in self._folders():
            try:
                state = read_state(folder)
            except Damaged as error:
                log.warning("%s", error)
                continue
            if state["score"] is not None and not self._is_foreign(folder):
                scores[state["step"]] = state["score"]
        if not scores:
            raise UserError(f"no checkpoint in {self.folder} has a score yet; resume `latest`")
        return min(scores, key=lambda step: scores[step])

    def _folders(self) -> list[Path]:
        return [folder for folder in folders_in(self.folder) if (folder / STATE).is_file()]

    def _is_foreign(self, folder: Path) -> bool:
        """True where it says that it belongs to other work; a damaged state says nothing."""
        try:
            found: Any = read_json(folder / STATE)
            return bool(found["fingerprint"] != self.fingerprint.digest)
        except (OSError, ValueError, KeyError, TypeError):
            return False

    def _set_aside(self, folders: list[Path]) -> None:
        for folder in folders:
            target = self.folder / SET_ASIDE / folder.name
            shutil.rmtree(target, ignore_errors=True)
            target.parent.mkdir(exist_ok=True)
            folder.replace(target)

    def _clear_partials(self) -> None:
        for partial in self.folder.glob(".step-*.partial"):
            shutil.rmtree(partial)


def settled(config: LoopConfig, chosen: Path | None, *, readers: int) -> LoopConfig:
    """The configuration with the accumulation that makes an optimizer step of as many batches as it is to have.

    These are the `step_batches` of the checkpoint that was chosen, or else of the configuration. readers: processes
    that read different batches. Raises `UserError` where they cannot share the batches of a step equally.
    """
    if chosen is not None:
        batches = int(read_state(chosen)["step_batches"])
        said, way_out = f"{chosen} was made with", f"remove {chosen.parent} to start again"
    elif config.step_batches is not None:
        batches = config.step_batches
        said, way_out = (
            "step_batches asks for",
            "set step_batches to a multiple of them, which is another result",
        )
    else:
        return config
    if batches % readers:
        fitting = ", ".join(str(count) for count in range(1, batches + 1) if batches % count == 0)
        raise UserError(
            f"{said} {batches} batches in each optimizer step, which {readers} processes cannot share equally; start"
            f" {fitting} processes (runtime.launch), or {way_out}"
        )
    accumulation = batches // readers
    if accumulation != config.accumulation:
        log.info(
            "%d batches in each step: accumulation is %d on %d processes", batches, accumulation, readers
        )
    return config.model_copy(update={"accumulation": accumulation, "step_batches": batches})
