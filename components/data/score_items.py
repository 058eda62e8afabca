"""Which scores are known already: one by one, so that a changed scorer is computed again by itself.

What decides a score beside the clip are the parameters of its scorer, the code it runs and the weights it reads.
Clips are opened once for all scores that they lack.
"""

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.artifacts import sha256_of, sha256_of_json
from components.data.code_version import code_version
from components.data.config import ScoreConfig, Scorer
from components.data.items import Items, run_tokens
from components.data.looks import Job
from components.data.pool import Limits, Outcome, Result
from components.data.scorers import SCORERS, Scores, score_clip
from components.storage import stamp_of

# parameters of `score:` that change what a scorer says; its mode does not
LOOKS = ("frames", "analysis_width")
PARAMETERS: Mapping[str, tuple[str, ...]] = {
    "motion": LOOKS,
    "sharpness": LOOKS,
    "text": (*LOOKS, "text_width"),
    "brightness": LOOKS,
    "camera": LOOKS,
    "black": LOOKS,
    "frozen": LOOKS,
    "aesthetic": (),
    "match": (),
}
WEIGHTS: Mapping[str, tuple[str, ...]] = {
    "text": ("text_model",),
    "aesthetic": ("clip_weights", "aesthetic_weights"),
    "match": ("clip_weights",),
}


@dataclass(frozen=True)
class Clips:
    """Some clips: the id of each, what is to be looked at, and the file that it is in."""

    ids: Sequence[str]
    jobs: Sequence[Job]
    sources: Sequence[str]  # as the table names them

    def keys(self) -> list[str]:
        return [sha256_of_json([clip, job.fps]) for clip, job in zip(self.ids, self.jobs, strict=True)]


def score_all(
    batches: Callable[[], Iterable[Clips]], config: ScoreConfig, limits: Limits, root: Path
) -> Iterator[tuple[Clips, list[Result[Scores]]]]:
    """The scores of every clip, in order; a clip for which one of them fails has none, and that reason.

    `batches` makes the clips anew each time that it is called: to see what they lack, to score, and for the results.
    """
    names = [name for name in SCORERS if getattr(config, name) is not Scorer.DISABLE]
    with ExitStack() as stack:
        opened = {
            name: stack.enter_context(Items[Scores](root, f"score/{name}", version_of(name, config)))
            for name in names
        }
        kept = _Kept(opened, config, limits)
        masks = [kept.lacking(clips) for clips in batches()]
        total = sum(int(np.count_nonzero(mask)) for mask in masks)
        waiting = kept.waiting(batches(), masks)
        run_tokens(score_clip, waiting, limits, title="score", total=total, finished=kept.add)
        for clips in batches():
            yield clips, kept.results(clips)


@dataclass(frozen=True)
class _Asked:
    """A clip that is scored, and which scores it lacks, as bits."""

    key: str
    job: Job
    mask: int


class _Kept:
    """Known scores of every scorer that is on."""

    def __init__(self, items: Mapping[str, Items[Scores]], config: ScoreConfig, limits: Limits) -> None:
        self.items, self.limits = items, limits
        self.failed: dict[str, str] = {}  # key -> stamp of the file that the failure was met in

        @cache
        def config_of(mask: int) -> ScoreConfig:
            return only(config, self.names_of(mask))

        self.config_of = config_of

    def names_of(self, mask: int) -> list[str]:
        return [name for bit, name in enumerate(self.items) if mask >> bit & 1]

    def lacking(self, clips: Clips) -> NDArray[np.uint32]:
        """Per clip the scorers whose word is lacking: bit n for the nth of them."""
        masks = np.zeros(len(clips.ids), np.uint32)
        keys = clips.keys()
        for bit, (name, items) in enumerate(self.items.items()):
            own = _keys(name, keys, clips.jobs)
            lacks = items.lacking(own, self.limits, self._stamps(keys, clips))
            masks |= np.left_shift(np.array(lacks, np.uint32), bit)
        return masks

    def waiting(
        self, batches: Iterable[Clips], masks: Iterable[NDArray[np.uint32]]
    ) -> Iterator[tuple[_Asked, Job]]:
        """Clips that lack something, each with a configuration of what it lacks."""
        for clips, known in zip(batches, masks, strict=True):
            keys = clips.keys() if known.any() else []
            for row in np.flatnonzero(known).tolist():
                job, mask = clips.jobs[row], int(known[row])
                yield _Asked(keys[row], job, mask), replace(job, config=self.config_of(mask))

    def add(self, asked: _Asked, result: Result[Scores]) -> None:
        if result.outcome is not Outcome.OK:
            self.failed[asked.key] = stamp_of(asked.job.path)
        stamp = self.failed.get(asked.key, "")
        for name in self.names_of(asked.mask):
            (key,) = _keys(name, [asked.key], [asked.job])
            self.items[name].add(key, _part(result, name), self.limits, stamp=stamp)

    def results(self, clips: Clips) -> list[Result[Scores]]:
        keys = clips.keys()
        stamp = self._stamps(keys, clips)
        parts = [
            items.get_many(_keys(name, keys, clips.jobs), self.limits, stamp)
            for name, items in self.items.items()
        ]
        return [_together([part[row] for part in parts]) for row in range(len(keys))]

    def _stamps(self, keys: Sequence[str], clips: Clips) -> Callable[[int], str]:
        return lambda row: self.failed.get(keys[row]) or stamp_of(clips.jobs[row].path)


def only(config: ScoreConfig, names: Sequence[str]) -> ScoreConfig:
    """The configuration with no other scorers."""
    return config.model_copy(update={name: Scorer.DISABLE for name in SCORERS if name not in names})


def version_of(name: str, config: ScoreConfig) -> dict[str, Any]:
    """All that decides what a scorer says of a clip."""
    modules, sources = set[str](), list[str]()
    _collect(SCORERS[name].score, modules, sources)
    return {
        "scorer": name,
        "parameters": {field: getattr(config, field) for field in PARAMETERS[name]},
        "code": code_version("components.data.looks", "components.data.video", *sorted(modules)),
        "function": sources,
        "weights": {
            field: sha256_of(Path(path)) if (path := getattr(config, field)) else None
            for field in WEIGHTS.get(name, ())
        },
    }


def _collect(function: Callable[..., Any], modules: set[str], sources: list[str]) -> None:
    """The text of a function and of what it uses of its own module, and the other modules it uses."""
    if (source := inspect.getsource(function)) in sources:
        return
    sources.append(source)
    for name, used in _names(function):
        if inspect.isfunction(used) and used.__module__ == function.__module__:
            _collect(used, modules, sources)
        elif isinstance(used, int | float | str | tuple):
            sources.append(f"{name} = {used!r}")
        elif module := getattr(used, "__module__", None):
            modules.add(module)
        elif used is None and "." in name:  # imported within the function
            modules.add(name)


def _names(function: Callable[..., Any]) -> Iterator[tuple[str, Any]]:
    code, known = function.__code__, function.__globals__
    return ((name, known.get(name)) for name in code.co_names)


def _keys(name: str, keys: Sequence[str], jobs: Sequence[Job]) -> list[str]:
    """What scores are kept under; the caption matters to `match` alone."""
    if name != "match":
        return list(keys)
    return [sha256_of_json([key, job.caption]) for key, job in zip(keys, jobs, strict=True)]


def _part(result: Result[Scores], name: str) -> Result[Scores]:
    """What a result says of one scorer."""
    if result.value is None:
        return result
    return replace(result, value={column: result.value[column] for column in SCORERS[name].columns})


def _together(parts: Sequence[Result[Scores] | None]) -> Result[Scores]:
    scores: Scores = {}
    for part in parts:
        if part is None or part.value is None:
            return part or Result(Outcome.REJECTED)
        scores |= part.value
    return Result(Outcome.OK, scores)
