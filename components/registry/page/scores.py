"""What the evaluation and the gate found, in the words of the page."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from markupsafe import Markup, escape

from components.evaluation.record import EvaluationRecord, Metric, Sample
from components.page.media import data_uri
from components.page.words import plural
from components.registry.page.words import HEADLINES, METRIC_TITLES, number, title_of
from components.registry.policy.decide import ANCHOR

TONES = {"promote": "good", "reject": "bad", "rejected by the ladder": "bad", "inconclusive": "open"}
HEADS = {
    "promote": "Promote",
    "reject": "Rejected",
    "rejected by the ladder": "Rejected by the ladder",
    "inconclusive": "Cannot decide",
}
STATUS_TONES = {"passed": "good", "failed": "bad", "undecided": "open", "left out": "open"}


@dataclass(frozen=True)
class Verdict:
    head: str
    tone: str
    sentences: list[Markup]


def verdict_of(judged: Mapping[str, Any] | None, *, is_champion: bool) -> Verdict:
    """The gate's decision with the reasons behind it; says so where nothing was judged yet."""
    if judged is None:
        return Verdict(
            "Not judged yet",
            "open",
            [sentence("the gate has not run: `reelforge run` brings it up to date")],
        )
    decision = judged["verdict"]
    head = "Promoted" if decision == "promote" and is_champion else HEADS[decision]
    return Verdict(head, TONES[decision], [sentence(part) for part in judged["reason"].split("; ")])


def sentence(reason: str) -> Markup:
    """A reason with the metrics' names as the page writes them, and `code` set as code."""
    parts = f"{reason}.".split("`")
    parts[::2] = [
        re.sub(r"\w+", lambda word: METRIC_TITLES.get(word[0], word[0]), part) for part in parts[::2]
    ]
    parts[0] = f"{parts[0][:1].upper()}{parts[0][1:]}"
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if index % 2 else escape(part)
        for index, part in enumerate(parts)
    )


@dataclass(frozen=True)
class Tile:
    """A number in large type, and what to hold it against."""

    title: str
    value: str
    note: str


def tiles(record: EvaluationRecord) -> list[Tile]:
    known = [(name, record.metrics[name]) for name in HEADLINES if name in record.metrics]
    return [
        Tile(title_of(name), number(metric.value, name, metric.unit), _note(name, metric, record))
        for name, metric in known
        if metric.value is not None
    ]


def _note(name: str, metric: Metric, record: EvaluationRecord) -> str:
    untrained = record.metrics.get(f"{name}_untrained")
    if untrained:
        return f"{number(untrained.value, name)} with random weights; lower is better"
    if metric.chance is not None:
        return f"{number(metric.chance, name)} by guessing; {plural(metric.n, 'video')}"
    return f"{plural(metric.n, 'clip')}; {'higher' if metric.higher_is_better else 'lower'} is better"


@dataclass(frozen=True)
class Check:
    text: str
    tone: str


@dataclass(frozen=True)
class Row:
    """One metric: what it is, how it was measured, and what the gate asked of it."""

    title: str
    value: str
    interval: str
    champion: str
    n: int
    identity: str
    checks: list[Check] = field(default_factory=list)


def metric_rows(record: EvaluationRecord, judged: Mapping[str, Any] | None) -> list[Row]:
    """All metrics, those that the gate looked at first."""
    findings = list(judged["findings"]) if judged else []
    asked = {finding["metric"] for finding in findings}
    names = sorted(record.metrics, key=lambda name: (name not in asked, name))
    return [_row(name, record.metrics[name], [f for f in findings if f["metric"] == name]) for name in names]


def _row(name: str, metric: Metric, findings: list[dict[str, Any]]) -> Row:
    low_high = [number(bound, name) for bound in metric.interval or ()]
    against = [f["champion"] for f in findings if f["kind"] != ANCHOR and f["champion"] is not None]
    champion = next(iter(against), None)
    return Row(
        title=title_of(name),
        value=number(metric.value, name, metric.unit),
        interval=" – ".join(low_high),
        champion=number(champion, name) if champion is not None else "",
        n=metric.n,
        identity=metric.identity,
        checks=[Check(_asked(finding, metric), STATUS_TONES[finding["status"]]) for finding in findings],
    )


def _asked(finding: Mapping[str, Any], metric: Metric) -> str:
    """What was asked, short: `at least 75.0 %`, `better than champion, p = 0.004`, `within margin 0.050`."""
    name, limit, status = finding["metric"], finding["limit"], finding["status"]
    if finding["kind"] == "floor":
        return f"at {'least' if metric.higher_is_better else 'most'} {number(limit, name, metric.unit)}"
    rival = " of the frozen baseline" if finding["kind"] == ANCHOR else ""
    if status == "left out":
        return f"not comparable with that{rival}" if rival else "not comparable with the champion's"
    if finding["kind"] in ("guard", ANCHOR) and limit is not None:
        return f"{'within' if status == 'passed' else 'not within'} margin {number(limit, name)}{rival}"
    if finding["p_value"] is not None:
        return f"better than the champion: p = {finding['p_value']:.3f}"
    return f"{finding['kind']}: {status}"


@dataclass(frozen=True)
class Attribute:
    """What a prompt asked for, and what was seen; `seen` is empty where they agree."""

    asked: str
    seen: str


@dataclass(frozen=True)
class Clip:
    """`champion`: the champion's video of the same prompt, which plays in step with this one; None without one."""

    source: str  # data URI
    prompt: str
    attributes: list[Attribute]
    champion: str | None = None


def clips(record: EvaluationRecord, folder: Path, champion: Path | None = None) -> list[Clip]:
    """The gallery, with the files inside; `champion` is the folder of the evaluation to show beside it."""
    other = _videos_by_prompt(champion) if champion else {}
    return [
        Clip(
            data_uri((folder / sample.file).read_bytes()),
            sample.prompt,
            _attributes(sample),
            data_uri(other[sample.prompt].read_bytes()) if sample.prompt in other else None,
        )
        for sample in record.gallery
        if (folder / sample.file).is_file()
    ]


def _videos_by_prompt(folder: Path) -> dict[str, Path]:
    gallery = EvaluationRecord.read(folder).gallery
    return {sample.prompt: folder / sample.file for sample in gallery if (folder / sample.file).is_file()}


def _attributes(sample: Sample) -> list[Attribute]:
    wanted = {name: value for name, value in sample.expected.items() if value is not None}
    return [
        Attribute(value, "" if sample.judged.get(name) == value else sample.judged.get(name) or "unclear")
        for name, value in wanted.items()
    ]


def agreement(gallery: list[Clip]) -> str:
    """How many of the shown videos show everything that was asked for, as a sentence."""
    judged = [clip for clip in gallery if clip.attributes]
    if not judged:
        return ""
    right = sum(all(not attribute.seen for attribute in clip.attributes) for clip in judged)
    return f"{right} of {len(judged)} show everything their prompt names."


@dataclass(frozen=True)
class Pair:
    original: str  # data URI
    decoded: str  # data URI
    psnr: str


def reconstructions(record: EvaluationRecord, folder: Path) -> list[Pair]:
    return [
        Pair(
            data_uri((folder / pair.original).read_bytes()),
            data_uri((folder / pair.decoded).read_bytes()),
            number(pair.psnr, unit="dB"),
        )
        for pair in record.reconstructions
        if (folder / pair.original).is_file() and (folder / pair.decoded).is_file()
    ]
