"""Put the workspace's models into the registry as candidates, with everything needed to judge them later.

A version is identified by the sha256 of its folder: registering the same weights again finds the version that
is there, and at most attaches a newer evaluation to it.
"""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import mlflow
from mlflow.exceptions import MlflowException
from mlflow.models import Model, infer_signature

import models
from components.artifacts import read_json, sha256_of, sha256_of_json, write_json
from components.params import Params, RuntimeConfig
from components.provenance import git_revision, locked_digest
from components.registry.lineage import LINEAGE_FILE, build_lineage
from components.registry.lock import registry_lock
from components.registry.versions import (
    AUTOENCODER,
    CANDIDATE,
    DIGEST_TAG,
    TEXT_TO_VIDEO,
    Version,
    with_digest,
)
from components.registry.weights import pack
from components.storage import SCHEME
from components.tracking import PARENT_TAG
from components.tracking_writer import connect, experiment_id
from models.generation.layout import read_settings

log = logging.getLogger(__name__)

PIPELINE = Path("artifacts/pipeline")
EVALUATION = Path("artifacts/evaluate")
VERDICT = Path("artifacts/gate/verdict.json")
TRACKED = (PIPELINE, EVALUATION, Path("artifacts/clips/dedup.json"))
EVALUATION_TAG = "evaluation_sha256"
MODEL_CODE = Path(__file__).with_name("pyfunc_model.py")
FILES = "model"  # where a version's files lie in its run
# what a serving environment needs beside `models/`, which is logged as code
REQUIREMENTS = ("mlflow", "torch", "diffusers", "transformers", "safetensors", "einops", "numpy", "av")
FROM_S3 = "boto3"  # too, where the store is s3://


@dataclass(frozen=True)
class Candidate:
    """What is to be registered under one name."""

    name: str
    folder: Path
    digest: str
    tags: dict[str, str]


def register_candidate(root: Path, params: Params, parent_run: str | None = None) -> dict[str, str]:
    """Register autoencoder and text-to-video model; registered name -> version. The same weights twice: one version."""
    with registry_lock(root):
        autoencoder = _candidate(root, AUTOENCODER, Path(params.candidate.autoencoder), params)
        first = _find(root, autoencoder) or _register_autoencoder(root, autoencoder, params, parent_run)
        pipeline = _candidate(root, TEXT_TO_VIDEO, PIPELINE, params)
        pipeline.tags["parent.autoencoder"] = f"{AUTOENCODER} v{first.number}"
        second = _find(root, pipeline) or _register_pipeline(root, pipeline, params, parent_run)
        _attach_evaluation(root, second)
        for version in (first, second):
            connect(root).set_registered_model_alias(version.name, CANDIDATE, str(version.number))
    return {version.name: str(version.number) for version in (first, second)}


def _candidate(root: Path, name: str, folder: Path, params: Params) -> Candidate:
    digest = sha256_of(root / folder)
    tags = {DIGEST_TAG: digest, "code": git_revision(root), "recipe": params.recipe}
    for path in (*TRACKED, Path(params.candidate.autoencoder)):
        if recorded := locked_digest(root, root / path):
            tags[f"dvc.{path.as_posix()}"] = recorded
    return Candidate(name, root / folder, digest, tags)


def _find(root: Path, candidate: Candidate) -> Version | None:
    found = with_digest(root, candidate.name, candidate.digest)
    if found:
        log.info("%s has these weights already", found)
    return found


@contextmanager
def _registration_run(root: Path, candidate: Candidate, parent_run: str | None) -> Iterator[str]:
    """An MLflow run that holds the version's files; its id."""
    client = connect(root)
    tags = {"kind": "registration", DIGEST_TAG: candidate.digest}
    if parent_run:
        tags[PARENT_TAG] = parent_run
    run = client.create_run(experiment_id(client, root), tags=tags, run_name=f"register {candidate.name}")
    status = "FAILED"
    try:
        yield str(run.info.run_id)
        status = "FINISHED"
    finally:
        client.set_terminated(run.info.run_id, status)


def _register_autoencoder(
    root: Path, candidate: Candidate, params: Params, parent_run: str | None
) -> Version:
    with _registration_run(root, candidate, parent_run) as run_id, TemporaryDirectory() as temporary:
        pack(candidate.folder, Path(temporary), root, params.runtime)
        connect(root).log_artifacts(run_id, temporary, FILES)
        return _create_version(root, candidate, run_id)


def _register_pipeline(root: Path, candidate: Candidate, params: Params, parent_run: str | None) -> Version:
    with _registration_run(root, candidate, parent_run) as run_id, TemporaryDirectory() as temporary:
        lineage, folder = Path(temporary) / LINEAGE_FILE, Path(temporary) / FILES
        write_json(lineage, build_lineage(root, params))
        save_pyfunc(candidate.folder, folder, root, params.runtime)
        client = connect(root)
        client.log_artifact(run_id, str(lineage))
        client.log_artifacts(run_id, str(folder), FILES)
        return _create_version(root, candidate, run_id)


def _create_version(root: Path, candidate: Candidate, run_id: str) -> Version:
    """The version appears with all its tags at once, so one without a digest cannot be left behind."""
    client = connect(root)
    try:
        client.create_registered_model(candidate.name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    source = f"{client.get_run(run_id).info.artifact_uri}/{FILES}"
    created = client.create_model_version(candidate.name, source, run_id, candidate.tags)
    log.info("registered %s v%s", candidate.name, created.version)
    return Version(candidate.name, int(created.version), run_id, dict(candidate.tags), ())


def save_pyfunc(pipeline: Path, folder: Path, root: Path, runtime: RuntimeConfig) -> None:
    """Write the pipeline as an MLflow model that needs nothing of this repository: its code goes with it.

    Its large files stay in the store, which whoever loads it must be able to read.
    """
    with TemporaryDirectory() as temporary:
        packed = Path(temporary) / "pipeline"
        pack(pipeline, packed, root, runtime)
        mlflow.pyfunc.save_model(
            str(folder),
            python_model=str(MODEL_CODE),
            artifacts={"pipeline": str(packed)},
            code_paths=[str(Path(models.__file__).parent)],
            pip_requirements=_requirements(runtime.store_uri(root)),
            model_config={"weights": ""},  # where they have been moved to, in `load_model`
        )
    _, defaults = read_settings(pipeline)
    described = Model.load(str(folder))
    described.signature.params = infer_signature(params=asdict(defaults)).params
    described.save(str(folder / "MLmodel"))


def _requirements(store: str) -> list[str]:
    """What the model is served with: the versions that it was made and judged with, without the kind of their build."""
    names = [*REQUIREMENTS, *([FROM_S3] if store.startswith(SCHEME) else [])]
    return [f"{name}=={metadata.version(name).partition('+')[0]}" for name in names]


def _attach_evaluation(root: Path, version: Version) -> None:
    """Record, features and samples under `evaluation/<digest>`; the verdict as a file and as tags."""
    client = connect(root)
    digest = sha256_of(root / EVALUATION)
    if version.tags.get(EVALUATION_TAG) != digest:
        client.log_artifacts(version.run_id, str(root / EVALUATION), f"evaluation/{digest}")
    verdict: Mapping[str, Any] = read_json(root / VERDICT)
    client.log_artifact(version.run_id, str(root / VERDICT), f"verdict/{sha256_of_json(verdict)[:16]}")
    tags = {EVALUATION_TAG: digest, "verdict": verdict["verdict"], "verdict_reason": verdict["reason"]}
    tags |= {f"metric.{name}": identity for name, identity in verdict["candidate"]["identities"].items()}
    for key, value in tags.items():
        client.set_model_version_tag(version.name, str(version.number), key, str(value))
