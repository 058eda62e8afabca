"""Run VBench's own code, one dimension per child process, and take nothing on trust that it says.

Its command line hides failures (exit code 0 after a failed child) and downloads what is missing; so its Python
interface is called in a process of its own, with the weights checked before and the result checked after. A dimension
ends as ok, unavailable (something is not installed: never a zero, never a pass) or failed, each with its reason.
"""

import json
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from components.artifacts import read_json, sha256_of_json, write_json
from components.errors import UserError
from components.evaluation.vbench.child import run_script
from components.evaluation.vbench.environment import Environment
from components.evaluation.vbench.prompts import FLICKER
from components.evaluation.vbench.scores import DIMENSIONS
from components.evaluation.vbench.still import keep_still
from components.evaluation.vbench.weights import check_weights
from components.progress import progress

log = logging.getLogger(__name__)
RUNNER = Path(__file__).with_name("runner.py")
SUFFIX = ".mp4"
Mode = Literal["vbench_standard", "custom_input"]
STANDARD: Mode = "vbench_standard"
# dimensions that mean something for prompts of one's own
CUSTOM = frozenset(
    {
        "subject_consistency",
        "background_consistency",
        "temporal_flickering",
        "motion_smoothness",
        "dynamic_degree",
        "aesthetic_quality",
        "imaging_quality",
    }
)
NEEDS_DETECTRON = frozenset({"object_class", "multiple_objects", "color", "spatial_relationship"})
# VBench gives no score to a video without the object, and leaves it out of the mean
MAY_SKIP = frozenset({"color"})
LIGHT = frozenset({FLICKER})  # what the light environment can run, of videos that are not filtered first


class Status(StrEnum):
    OK = "ok"
    UNAVAILABLE = "unavailable"
    FAILED = "failed"


@dataclass(frozen=True)
class Job:
    """What is evaluated. `prompts`: file name -> prompt, in custom mode; `videos`: a flat folder of MP4 files."""

    videos: Path
    mode: Mode
    expected: Mapping[str, int]  # videos that each dimension must have scored
    prompts: Mapping[str, str] = field(default_factory=dict)
    device: str = "cpu"
    seconds: float = 7200.0  # per dimension


@dataclass(frozen=True)
class DimensionResult:
    """`score` is raw, as VBench gives it; `videos`: file -> value; `identity`: what it was measured with.

    `subject` is a digest of the videos: scores of two models share an identity and differ in subject.
    """

    dimension: str
    status: Status
    reason: str = ""
    score: float | None = None
    videos: dict[str, float] = field(default_factory=dict)
    identity: dict[str, Any] = field(default_factory=dict)
    subject: str = ""


def run_dimensions(
    job: Job,
    dimensions: Sequence[str],
    environment: Environment,
    *,
    weights: Path,
    results: Path,
    expected_weights: Mapping[str, str] | None = None,
) -> dict[str, DimensionResult]:
    """Results of the dimensions, in order; those that `results` (a folder) holds of the same job are taken from there.

    Raises `UserError` for dimensions that do not exist or that the mode does not allow, and for a folder without
    videos.
    """
    _check(job, dimensions)
    found: dict[str, DimensionResult] = {}
    subject = _digest(job)
    with progress("vbench", len(dimensions)) as advance:
        for dimension in dimensions:
            standard = job.mode == STANDARD
            checked = check_weights(dimension, weights, expected_weights, standard=standard)
            identity = {"package": environment.digest, "weights": dict(checked.digests), "mode": job.mode}
            kept = _kept(results / f"{dimension}.json", identity, subject)
            if kept is None:
                lacking = [*checked.problems, *_not_installed(dimension, environment, standard=standard)]
                made = _run(job, dimension, environment, (weights, results), lacking)
                kept = replace(made, identity=identity, subject=subject)
                if kept.status is Status.OK:
                    write_json(results / f"{dimension}.json", asdict(kept))
            found[dimension] = kept
            score = "" if kept.score is None else f"{kept.score:.4f} "
            log.info("%s: %s %s%s", dimension, kept.status, score, kept.reason)
            advance(1, dimension)
    return found


def _check(job: Job, dimensions: Sequence[str]) -> None:
    unknown = [name for name in dimensions if name not in DIMENSIONS]
    if unknown:
        raise UserError(f"VBench has no dimension {', '.join(unknown)}; it has {', '.join(DIMENSIONS)}")
    refused = [name for name in dimensions if job.mode == "custom_input" and name not in CUSTOM]
    if refused:
        raise UserError(
            f"{', '.join(refused)}: only defined for VBench's own prompts; use the standard mode, or leave them out"
        )
    if not job.videos.is_dir() or not any(job.videos.glob(f"*{SUFFIX}")):
        raise UserError(f"{job.videos} holds no {SUFFIX} files; `reelforge vbench generate` makes them")


def _digest(job: Job) -> str:
    """Digest of the names, sizes and times of the videos, and of the prompts."""
    files = sorted(job.videos.glob(f"*{SUFFIX}"))
    facts = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    return sha256_of_json([facts, dict(job.prompts)])


def _kept(path: Path, identity: Mapping[str, Any], subject: str) -> DimensionResult | None:
    if not path.is_file():
        return None
    raw = read_json(path)
    same = raw["identity"] == identity and raw["subject"] == subject
    return DimensionResult(**{**raw, "status": Status(raw["status"])}) if same else None


def _run(
    job: Job, dimension: str, environment: Environment, folders: tuple[Path, Path], problems: Sequence[str]
) -> DimensionResult:
    """`folders`: of the weights, and of the results."""
    if problems:
        return DimensionResult(dimension, Status.UNAVAILABLE, "; ".join(problems))
    weights, results = folders
    note = ""
    if dimension == FLICKER and job.mode == STANDARD:
        still = keep_still(
            job.videos,
            environment,
            weights=weights,
            answers=results / f"still-{_digest(job)[:16]}.jsonl",
            device=job.device,
            seconds=job.seconds,
        )
        if still.problem:
            return DimensionResult(dimension, Status.FAILED, still.problem)
        job, note = replace(job, videos=still.folder, expected={FLICKER: still.count}), still.note
    with TemporaryDirectory(prefix="vbench-") as temporary:
        work = Path(temporary)
        task = {
            "dimension": dimension,
            "videos": str(job.videos.resolve()),
            "mode": job.mode,
            "device": job.device,
            "work": str(work / "vbench"),
            "prompts": dict(job.prompts),
        }
        ended = run_script(environment.python, RUNNER, task, work, weights=weights, seconds=job.seconds)
        result = work / "result.json"
        if ended.code != 0 or not result.is_file():
            return DimensionResult(dimension, Status.FAILED, ended.why)
        return _checked(dimension, json.loads(result.read_text()), job, note)


def obstacles(
    dimension: str, environment: Environment | None, weights: Path, *, standard: bool = True
) -> list[str]:
    """What keeps a dimension from being run here, in the standard run where `standard`; empty where nothing does."""
    lacking = (
        ["VBench is not installed (`reelforge vbench install`)"]
        if environment is None
        else _not_installed(dimension, environment, standard=standard)
    )
    return [*lacking, *check_weights(dimension, weights, standard=standard).problems]


def _not_installed(dimension: str, environment: Environment, *, standard: bool) -> list[str]:
    if environment.kind == "light" and (standard or dimension not in LIGHT):
        return ["the full environment is not installed (`reelforge vbench install --full`)"]
    if dimension in NEEDS_DETECTRON and not any(
        environment.folder.glob("lib/python*/site-packages/detectron2*")
    ):
        return [f"detectron2 is not in {environment.folder}; build it from source there"]
    return []


def _checked(dimension: str, raw: Mapping[str, Any], job: Job, note: str) -> DimensionResult:
    """A result that is complete and finite, with a note to it, else a failed one."""
    videos, score = dict(raw["videos"]), float(raw["score"])
    reason, expected = "", job.expected[dimension]
    if dimension in MAY_SKIP and 0 < len(videos) < expected:
        note = (
            f"{expected - len(videos)} of {expected} videos do not show the object whose colour is asked for"
        )
    elif len(videos) != expected:
        reason = f"{len(videos)} videos were scored, {expected} were expected"
    if not all(math.isfinite(value) for value in (score, *videos.values())):
        reason = "a score is not finite"
    if reason:
        return DimensionResult(dimension, Status.FAILED, reason)
    return DimensionResult(dimension, Status.OK, note, score=score, videos=videos)
