"""The sentinel at work in a run: asks all processes about a step, and decides where to go on after a broken one."""

import logging
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from components.errors import UserError
from components.training import processes
from components.training.checkpoint import Checkpoints
from components.training.config import SentinelConfig
from components.training.incidents import Incident, IncidentFile
from components.training.program import StepResult
from components.training.sentinel import Detour, Finding, Measured, Sentinel, samples_to_blame

log = logging.getLogger(__name__)
WAY_OUT = (
    "The weights were not changed, and the stage goes on from its last checkpoint. Look at these clips"
    " (`reelforge data show ID`), or have the next version of the data leave them out: `reelforge data quarantine`."
    " To go on with them, raise `sentinel.retries`; against a step that is only unusual raise `sentinel.spike`;"
    " where many steps break, lower `optimizer.lr` or set `precision: fp32`"
)


class Guard:
    """Judges every step of a run. All processes call each method together."""

    def __init__(self, config: SentinelConfig, checkpoints: Checkpoints, title: str) -> None:
        self.config, self.checkpoints, self.title = config, checkpoints, title
        self.file = IncidentFile(checkpoints.folder, checkpoints.fingerprint.digest)
        self.incidents: list[Incident] = processes.from_main(self.file.read())
        self.detour = Detour(place for incident in self.incidents for place in incident.left_out)
        self.sentinel = Sentinel(config)
        self.stop_asked = False  # of any process
        self._found: tuple[Measured, Finding] | None = None

    def take_up(self, state: Mapping[str, Any]) -> None:
        """Go on with what a checkpoint knows."""
        self.sentinel = Sentinel(self.config, state or None)
        self.detour = Detour({*self.detour.left_out, *state.get("left_out", ())})

    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {**self.sentinel.state(), "left_out": sorted(self.detour.left_out)}

    def passes(self, loss: float, norm: float, *, stop_asked: bool) -> bool:
        """True on all processes if the step may be applied. Carries along whether one of them was asked to stop."""
        losses, norms, stops = zip(*processes.gather([loss, norm, float(stop_asked)]), strict=True)
        self.stop_asked = any(stops)
        measured = Measured(losses, sum(norms) / len(norms))  # equal, or not finite on one
        finding = self.sentinel.judge(measured)
        self._found = (measured, finding) if finding else None
        if finding is None:
            self.sentinel.accept(measured)
        return finding is None

    @property
    def refused(self) -> bool:
        """True after a step that did not pass."""
        return self._found is not None

    def go_back(self, step: int, results: Sequence[StepResult]) -> Path | None:
        """Leave batches out after refusing optimizer step `step`; the checkpoint to load, None for the present state.

        The present state is as good as any when only the broken step's own batches are distrusted. Where breaks come
        close together the distrust doubles, and reaches back to a checkpoint. Raises `UserError` after `retries`.
        """
        assert self._found is not None
        measured, finding = self._found
        clips = self._clips(finding, results)
        named = {clip for incident in self._active() for clip in incident.clips}
        counts = not clips or not named.issuperset(clips)
        make = partial(Incident.of, step + 1, finding, measured, clips)
        if counts and sum(one.counts for one in self._active()) >= self.config.retries:
            self._stop(make(left_out=(), back_to=step, counts=False))
        place = self.detour.place(step)
        folder, back_to, first = self._target(step, place, reach=self._reach(place) if counts else 1)
        left_out = range(first, place + 1)
        incident = make(left_out=left_out, back_to=back_to, counts=counts)
        self._note(incident)
        self.detour = Detour({*self.detour.left_out, *left_out})
        log.warning(
            "%s: %s. Not applied; %d steps' batches are left out, going on from step %d",
            *(self.title, incident.text(), len(left_out), back_to),
        )
        return folder

    def _clips(self, finding: Finding, results: Sequence[StepResult]) -> list[str]:
        """Samples of the blamed processes."""
        mine: list[str] = []
        for result in results if processes.rank() in finding.ranks else ():
            losses = result.sample_losses
            known = None if losses is None else losses.detach().double().tolist()
            mine += samples_to_blame(result.clip_ids, known)
        return sorted({clip for clips in processes.from_all(mine) for clip in clips})

    def _active(self) -> list[Incident]:
        return [incident for incident in self.incidents if incident.left_out]

    def _reach(self, place: int) -> int:
        near = [
            one for one in self._active() if one.counts and place - max(one.left_out) <= self.config.window
        ]
        return self.config.skip_steps << min(len(near), 16)

    def _target(self, step: int, place: int, *, reach: int) -> tuple[Path | None, int, int]:
        """(checkpoint or None, its step, first set of batches to leave out)."""
        first = max(place - reach + 1, 0)
        wanted = self.detour.step_at(first)
        if wanted < step and (folder := self.checkpoints.back_to(wanted)) is not None:
            return folder, int(folder.name.removeprefix("step-")), first
        return None, step, place

    def _note(self, incident: Incident) -> None:
        self.incidents.append(incident)
        if processes.rank() == 0:
            self.file.append(incident)
        processes.barrier()

    def _stop(self, incident: Incident) -> None:
        """Name the samples for curation, and stop. What stopped the run leaves nothing out of the next try."""
        if incident not in self.incidents:
            self._note(incident)
        tries = f" after going back {self.config.retries} times" if self.config.retries else ""
        raise UserError(f"{self.title}: stopped{tries}: {incident.text()}. {WAY_OUT}")
