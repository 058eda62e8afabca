"""Where the model comes from and where its parts are: versions, revisions, digests, hardware, clips and licences."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components import runtime
from components.artifacts import sha256_of
from components.data import store
from components.page.words import duration, plural
from components.params import Params
from components.provenance import git_revision, locked_stages, machine
from components.registry.history import read_history
from components.registry.lineage import CLIPS, build_lineage
from components.registry.page.words import DIGEST_DIGITS
from components.registry.register import PIPELINE
from components.registry.versions import AUTOENCODER, TEXT_TO_VIDEO, Version, versions
from components.tracking import RunSummary
from components.tracking_writer import has_store


@dataclass(frozen=True)
class Fact:
    """A line of the list; `code` values are set in a fixed-width type."""

    name: str
    value: str
    code: bool = False


def present_version(root: Path, name: str, folder: Path) -> Version | None:
    """The registered version of the model in this workspace."""
    if not has_store(root) or not (root / folder).exists():
        return None
    digest = sha256_of(root / folder)
    return next((version for version in versions(root, name) if version.digest == digest), None)


def facts(root: Path, summaries: dict[str, RunSummary]) -> list[Fact]:
    """What one needs to find this model again, and to make it again."""
    listed = [
        *_model_facts(root, TEXT_TO_VIDEO, PIPELINE),
        *_model_facts(root, AUTOENCODER, Path(Params.load(root / "params.yaml").candidate.autoencoder)),
    ]
    listed.append(Fact("Code", git_revision(root), code=True))
    listed.extend(_hardware(summaries))
    if summaries:
        total = duration(sum(summary.seconds for summary in summaries.values()))
        listed.append(Fact("Time", f"{total} in {plural(len(summaries), 'stage')}, the newest run of each"))
    listed.append(Fact("MLflow", runtime.tracking_uri(root), code=True))
    listed.append(Fact("Workspace", str(root.resolve()), code=True))
    return listed


def _model_facts(root: Path, name: str, folder: Path) -> list[Fact]:
    if not (root / folder).exists():
        return []
    version = present_version(root, name, folder)
    said = "not registered" if version is None else _said(version)
    return [Fact(name, said), Fact("sha256", sha256_of(root / folder), code=True)]


def _said(version: Version) -> str:
    aliases = f" ({', '.join(version.aliases)})" if version.aliases else ""
    return f"version {version.number}{aliases}"


def _hardware(summaries: dict[str, RunSummary]) -> list[Fact]:
    """The machines that the stages say they ran on; this one where nothing was tracked."""
    used = {_machine_words(_tagged(summary.tags)) for summary in summaries.values()}
    return [Fact("Hardware", words) for words in sorted(used or {_machine_words(machine())})]


def _tagged(tags: dict[str, str]) -> dict[str, str]:
    described = {key: tags.get(f"machine.{key}", "unknown") for key in machine()}
    return {**described, "gpu": tags.get("machine.gpu", "")}


def _machine_words(described: dict[str, str]) -> str:
    cores, memory = described["cores"], described["memory_gb"]
    accelerator = f"{described['gpu']}, " if described.get("gpu") else ""
    return f"{accelerator}{described['processor']}, {cores} cores, {memory} GB, {described['system']}"


@dataclass(frozen=True)
class Licence:
    name: str
    clips: int
    sources: int


def licences(root: Path) -> list[Licence]:
    """Training clips by licence; empty where the clip table is not here."""
    if not (root / CLIPS).is_file() or not store.is_stored(root, root / CLIPS):
        return []
    trained: list[dict[str, Any]] = [s for s in build_lineage(root)["sources"] if s["split"] == "train"]
    clips: Counter[str] = Counter()
    for source in trained:
        clips[source["licence"] or "not stated"] += len(source["clips"])
    sources = Counter(source["licence"] or "not stated" for source in trained)
    return [Licence(name, count, sources[name]) for name, count in clips.most_common()]


@dataclass(frozen=True)
class Output:
    stage: str
    path: str
    digest: str


def outputs(root: Path) -> list[Output]:
    """Every output that DVC has recorded, by stage."""
    return [
        Output(name, path, digest)
        for name, stage in locked_stages(root).items()
        for path, digest in stage.writes.items()
    ]


@dataclass(frozen=True)
class Event:
    date: str
    what: str
    why: str


def history(root: Path) -> list[Event]:
    """Decisions about champions, newest first."""
    return [
        Event(entry["time"][:16].replace("T", " "), f"v{entry['version']} {entry['event']}", entry["reason"])
        for entry in reversed(read_history(root))
    ]


def short_digest(digest: str) -> str:
    return digest[:DIGEST_DIGITS]
