"""Which scores are known already: one by one, so that a changed scorer is computed again by itself.

What decides a score beside the clip are the parameters of its scorer, the code it runs and the weights it reads.
Clips are opened once for all scores that they lack.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from components.artifacts import sha256_of, sha256_of_json
from components.data.code_version import code_version
from components.data.config import ScoreConfig, Scorer
from components.data.items import Items, stamp_of
from components.data.looks import Job
from components.data.pool import Limits, Outcome, Result, run_pool
from components.data.scorers import SCORERS, Scores, score_clip

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


def score_all(
    jobs: Sequence[Job], clip_ids: Sequence[str], config: ScoreConfig, limits: Limits, root: Path
) -> list[Result[Scores]]:
    """The scores of every clip, in order; a clip for which one of them fails has none, and that reason."""
    names = [name for name in SCORERS if getattr(config, name) is not Scorer.DISABLE]
    with ExitStack() as stack:
        kept = {
            name: stack.enter_context(Items[Scores](root, f"score/{name}", version_of(name, config)))
            for name in names
        }
        stamps = {path: stamp_of(path) for path in {job.path for job in jobs}}
        keys = [sha256_of_json([clip, job.fps]) for clip, job in zip(clip_ids, jobs, strict=True)]

        def known(name: str, index: int) -> Result[Scores] | None:
            key, stamp = _key(name, keys[index], jobs[index]), stamps[jobs[index].path]
            return kept[name].get(key, limits, stamp=stamp)

        lacking = {
            index: missing
            for index in range(len(jobs))
            if (missing := [name for name in names if known(name, index) is None])
        }
        waiting = list(lacking)

        def finished(index: int, result: Result[Scores]) -> None:
            item = waiting[index]
            for name in lacking[item]:
                key = _key(name, keys[item], jobs[item])
                kept[name].add(key, _part(result, name), limits, stamp=stamps[jobs[item].path])

        asked = [replace(jobs[item], config=only(config, lacking[item])) for item in waiting]
        run_pool(score_clip, asked, limits, title="score", finished=finished)
        return [_together([known(name, index) for name in names]) for index in range(len(jobs))]


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


def _key(name: str, key: str, job: Job) -> str:
    """What a score is kept under; the caption matters to `match` alone."""
    return sha256_of_json([key, job.caption]) if name == "match" else key


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
