"""Where the model comes from and where its parts are: versions, revisions, digests, hardware, clips and licences."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from components import runtime
from components.artifacts import sha256_of
from components.params import Params
from components.provenance import git_revision, locked_digest, locked_stages, machine
from components.registry.history import read_history
from components.registry.lineage import CLIPS
from components.registry.register import PIPELINE
from components.registry.versions import AUTOENCODER, TEXT_TO_VIDEO, Version, versions
from components.stage import TEXT
from components.stages import stages_of
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


def facts(root: Path, params: Params, summaries: Mapping[str, RunSummary]) -> list[Fact]:
    """What one needs to find this model again, and to make it again."""
    listed = [
        *_model_facts(root, TEXT_TO_VIDEO, PIPELINE),
        *_model_facts(root, AUTOENCODER, Path(params.candidate.autoencoder)),
    ]
    listed.append(Fact("Code", git_revision(root), code=True))
    listed.extend(_parents(root, params))
    listed.extend(_hardware(summaries))
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


def _parents(root: Path, params: Params) -> list[Fact]:
    """What DVC has recorded of the data and of what the model was made from."""
    candidate = params.candidate
    parts = {
        "Data": CLIPS,
        "Text encoder": Path(TEXT["text"]),
        "Autoencoder": Path(candidate.autoencoder),
        "Latents": Path(candidate.latents),
        "Transformer": Path(candidate.transformer),
        "Model": PIPELINE,
    }
    found = {name: locked_digest(root, root / path) for name, path in parts.items()}
    return [Fact(f"{name}, in DVC", digest, code=True) for name, digest in found.items() if digest]


def _hardware(summaries: Mapping[str, RunSummary]) -> list[Fact]:
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
class Origin:
    """A stage: what DVC recorded of its outputs (path, digest), and the MLflow run that made them."""

    stage: str
    outputs: list[tuple[str, str]]
    run_id: str
    link: str  # to the run, where the tracking server has pages


def lineage(root: Path, params: Params, summaries: Mapping[str, RunSummary]) -> list[Origin]:
    """Every stage that the parameters run and of which DVC or MLflow knows."""
    locked = locked_stages(root)
    origins = []
    for name in stages_of(params):
        if name not in locked and name not in summaries:
            continue
        run = summaries.get(name)
        outputs = list(locked[name].writes.items()) if name in locked else []
        origins.append(Origin(name, outputs, run.run_id if run else "", run.link if run else ""))
    return origins


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
