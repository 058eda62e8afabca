"""The sentinel at work in a run: asks all processes about a step, and decides where to go on after a broken one.

A broken step is refused before the optimizer, so the weights are as good as before it: its batches are left out and the
run goes on where it stands. That is what Open-Sora Plan and OLMo do with an abnormal step, and it costs one step. Only
where broken steps come close together is the state itself distrusted. Then the run does what people did by hand for
PaLM (a checkpoint about 100 steps before the spike, and the batches since then skipped) and OPT: it goes back to a
checkpoint from well before the first of them and leaves out everything since, twice as far each further time.

The number of broken steps is bounded within a stretch of the data, not over the whole run: rare ones never add up to a
stop however long it trains.
"""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

from components.errors import UserError
from components.training import processes
from components.training.checkpoint import Checkpoints
from components.training.checkpoint_names import step_of
from components.training.config import SentinelConfig
from components.training.incidents import Incident, IncidentFile
from components.training.program import StepResult
from components.training.sentinel import Batch, Detour, Finding, Measured, Sentinel, samples_to_blame

log = logging.getLogger(__name__)
DIGITS = 12  # of a digest: exact in a float64
WAY_OUT = (
    "The weights were not changed, and the stage goes on from its last checkpoint. Look at these clips"
    " (`reelforge data show ID`), or have the next version of the data leave them out: `reelforge data quarantine`."
    " To go on with them, raise `sentinel.retries`; against a step that is only unusual raise `sentinel.spike`;"
    " where many steps break, lower `optimizer.lr` or set `precision: fp32`"
)


class Guard:
    """Judges every step of a run. All processes call each method together."""

    def __init__(
        self, config: SentinelConfig, checkpoints: Checkpoints, title: str, *, sharers: int = 1
    ) -> None:
        """sharers: processes in a row that share the tokens of one batch."""
        self.config, self.checkpoints, self.title, self.sharers = config, checkpoints, title, sharers
        self.file = IncidentFile(checkpoints.folder, checkpoints.fingerprint.digest)
        self.incidents: list[Incident] = processes.from_main(self.file.read())
        self.detour = Detour(place for incident in self.incidents for place in incident.left_out)
        self.sentinel = Sentinel(config)
        self.stop_asked = False  # of any process
        self._found: tuple[Measured, Finding] | None = None
        self._kinds: dict[float, tuple[str, str]] = {}  # by their digest; the same on all processes

    def take_up(self, state: Mapping[str, Any]) -> None:
        """Go on with what a checkpoint knows."""
        self.sentinel = Sentinel(self.config, state or None)
        self.detour = Detour({*self.detour.left_out, *state.get("left_out", ())})

    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {**self.sentinel.state(), "left_out": sorted(self.detour.left_out)}

    def passes(self, step: int, batches: Sequence[Batch], norm: float, *, stop_asked: bool) -> bool:
        """True on all processes if optimizer step `step`, of these batches here, may be applied.

        Carries along whether a process was asked to stop.
        """
        measured = self._measured(batches, norm, stop_asked=stop_asked)
        finding = self.sentinel.judge(measured, self._lenience(self.detour.place(step)))
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

        Raises `UserError` where `retries` are used up.
        """
        assert self._found is not None
        measured, finding = self._found
        place = self.detour.place(step)
        clips = self._clips(finding, results)
        named = {clip for incident in self._active() for clip in incident.clips}
        episode = self._episode(place)
        persists = len(episode) + 1 >= self.config.persists
        counts = persists or not clips or not named.issuperset(clips)
        make = partial(Incident.of, step + 1, finding, measured, clips)
        if counts and len(self._within(place, self.config.retry_steps)) >= self.config.retries:
            self._stop(make(left_out=(), back_to=step, counts=False))
        target: tuple[Path | None, int, int] = None, step, place
        if persists:
            target = self._target(step, place, min([place, *map(_place, episode)]))
        folder, back_to, first = target
        left_out = range(first, place + 1)
        incident = make(left_out=left_out, back_to=back_to, counts=counts)
        self._note(incident)
        self.detour = Detour({*self.detour.left_out, *left_out})
        log.warning(
            "%s: %s. Not applied; %d steps' batches are left out, going on from step %d",
            *(self.title, incident.text(), len(left_out), back_to),
        )
        return folder

    def _measured(self, batches: Sequence[Batch], norm: float, *, stop_asked: bool) -> Measured:
        """The step over all processes; a batch that several share is not finite if it is so on one of them."""
        mine = {_digest(batch): (batch.kind, batch.terms) for batch in batches}
        pairs = [number for batch in batches for number in (batch.loss, _digest(batch))]
        rows = processes.gather([norm, float(stop_asked), *pairs])
        seen = {digest for row in rows for digest in row[3::2]}
        if not self._kinds.keys() >= seen:  # a kind that is new to a process is new to all
            for known in processes.from_all(mine):
                self._kinds |= known
        self.stop_asked = any(row[1] for row in rows)
        groups = [rows[start : start + self.sharers] for start in range(0, len(rows), self.sharers)]
        found = [
            Batch(_worst([row[2 + 2 * micro] for row in group]), *self._kinds[group[0][3 + 2 * micro]])
            for micro in range(len(batches))
            for group in groups
        ]
        return Measured(found, sum(row[0] for row in rows) / len(rows))  # equal, or not finite on one

    def _clips(self, finding: Finding, results: Sequence[StepResult]) -> list[str]:
        """Samples of the blamed batches."""
        readers = processes.size() // self.sharers
        mine: list[str] = []
        for micro, result in enumerate(results):
            if micro * readers + processes.rank() // self.sharers in finding.batches:
                losses = result.sample_losses
                known = None if losses is None else losses.detach().double().tolist()
                mine += samples_to_blame(result.clip_ids, known)
        return sorted({clip for clips in processes.from_all(mine) for clip in clips})

    def _active(self) -> list[Incident]:
        return [incident for incident in self.incidents if incident.left_out]

    def _within(self, place: int, steps: int) -> list[Incident]:
        """Those that count, from the last `steps` sets of batches before `place`."""
        return [one for one in self._active() if one.counts and 0 < place - _place(one) < steps]

    def _episode(self, place: int) -> list[Incident]:
        """Broken steps close before this one, since the run last went back."""
        near: list[Incident] = []
        for one in reversed(self._active()):
            if not 0 < place - _place(one) < self._close or len(one.left_out) > 1:
                break
            near.append(one)
        return near

    @property
    def _close(self) -> int:
        return 2 * self.config.persists

    def _lenience(self, place: int) -> Mapping[str, int]:
        """How many refused values stood alone lately, by series: where some do so again and again, they are honest."""
        lately = self._within(place, self.config.retry_steps)
        undone = {gone for one in lately if len(one.left_out) > 1 for gone in one.left_out}
        alone = [one for one in lately if _place(one) not in undone and place - _place(one) >= self._close]
        return Counter(one.series for one in alone)

    def _target(self, step: int, place: int, broken: int) -> tuple[Path | None, int, int]:
        """(checkpoint or None, its step, first set of batches to leave out); the first broken set was `broken`."""
        before = [one for one in self._within(place, self.config.retry_steps) if len(one.left_out) > 1]
        far = max(broken - (self.config.skip_steps << min(len(before), 16)), 0)
        for wanted in (self.detour.step_at(far), self.detour.step_at(broken) - 1):
            if wanted < step and (folder := self.checkpoints.back_to(wanted)) is not None:
                back_to = step_of(folder)
                return folder, back_to, max(far, self.detour.place(back_to))
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
        config = self.config
        tries = (
            f" after {config.retries} broken steps among {config.retry_steps} were left out"
            if config.retries
            else ""
        )
        raise UserError(f"{self.title}: stopped{tries}: {incident.text()}. {WAY_OUT}")


def _place(incident: Incident) -> int:
    """The set of batches that broke."""
    return max(incident.left_out)


def _digest(batch: Batch) -> float:
    """A kind as a number, to travel among numbers."""
    return float(int(sha256(f"{batch.kind}\n{batch.terms}".encode()).hexdigest()[:DIGITS], 16))


def _worst(losses: Sequence[float]) -> float:
    """The loss that processes share: one that is not finite, where there is one."""
    return next((loss for loss in losses if loss - loss != 0), losses[0])
