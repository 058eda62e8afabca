"""The champion's evaluation as a folder of the workspace: what the gate compares a candidate with.

The registry is a service and the gate is a DVC stage, so the champion has to become a file that DVC can compare.
The folder is left alone when the champion is the very model in this workspace: what it was judged against is what
the verdict depends on, and a second run must find nothing to do. A champion that was evaluated under another
protocol than the candidate, with other networks, or for fewer metrics, is evaluated again as the candidate was, or the
two could never be compared.
"""

import logging
import shutil
import tempfile
from pathlib import Path

from components.artifacts import fresh_folder, read_json, sha256_of, write_json
from components.errors import UserError
from components.evaluation.other_model import evaluate_model
from components.evaluation.record import FEATURES_FILE, RECORD_FILE, EvaluationRecord
from components.params import Params
from components.registry.fetch import fetch_evaluation, fetch_pipeline
from components.registry.register import EVALUATION, EVALUATION_TAG, PIPELINE
from components.registry.versions import CHAMPION, TEXT_TO_VIDEO, Version, with_alias
from components.tracking_writer import connect

log = logging.getLogger(__name__)


def sync_baseline(root: Path, params: Params) -> bool:
    """Make the baseline folder hold the champion's evaluation; True if that changed it."""
    folder = root / params.gate.baseline
    champion = with_alias(root, TEXT_TO_VIDEO, CHAMPION)
    if champion and _is_settled(root, champion, folder):
        return False
    before = sha256_of(folder) if folder.exists() else ""
    with tempfile.TemporaryDirectory() as temporary:
        fetched = Path(temporary) / "baseline"
        fetched.mkdir()
        if champion is None:
            write_json(fetched / RECORD_FILE, {"champion": None})
        else:
            _copy_gate_files(_evaluation_of(root, params, champion, Path(temporary)), fetched)
        if sha256_of(fetched) == before:
            return False
        with fresh_folder(folder) as made:
            _copy_gate_files(fetched, made)
    log.info("baseline is the evaluation of %s", champion or "no champion yet")
    return True


def _is_settled(root: Path, champion: Version, folder: Path) -> bool:
    """True if there is nothing to fetch: the champion is this workspace's model, or its evaluation is here."""
    candidate = root / PIPELINE
    if not folder.exists():
        return False
    if candidate.exists() and champion.digest == sha256_of(candidate):
        return True
    if "model_sha256" not in read_json(folder / RECORD_FILE):
        return False
    present = EvaluationRecord.read(folder)
    return present.model_sha256 == champion.digest and _is_measured_as_candidate(root, present)


def _is_measured_as_candidate(root: Path, other: EvaluationRecord) -> bool:
    """True for an evaluation with all of the candidate's metrics, taken as the candidate's; without one, for any.

    A champion of another system keeps a sampler of its own, however often it is evaluated, and with it other metrics.
    """
    folder = root / EVALUATION
    if not (folder / RECORD_FILE).is_file():
        return True
    candidate = EvaluationRecord.read(folder)
    if candidate.asked != other.asked or not set(candidate.metrics) <= set(other.metrics):
        return False
    return candidate.sampling != other.sampling or all(
        metric.is_taken_as(other.metrics[name]) for name, metric in candidate.metrics.items()
    )


def _evaluation_of(root: Path, params: Params, champion: Version, temporary: Path) -> Path:
    """A folder with the champion's evaluation under the candidate's protocol."""
    stored = f"evaluation/{champion.tags[EVALUATION_TAG]}"
    folder = Path(connect(root).download_artifacts(champion.run_id, stored, str(temporary)))
    known = (folder / RECORD_FILE).is_file()  # one that the ladder turned away was promoted by override
    if known and _is_measured_as_candidate(root, EvaluationRecord.read(folder)):
        return folder
    said = "was evaluated in another way than the candidate" if known else "was never evaluated"
    log.info("%s %s; evaluating it now", champion, said)
    try:
        evaluate_model(root, params, fetch_pipeline(root, CHAMPION), temporary / EVALUATION.name)
        return temporary / EVALUATION.name
    except ValueError as error:  # as when it cannot make videos of the new length; the gate will say so
        log.warning("%s cannot be evaluated as the candidate was: %s", champion, error)
        if not known:
            raise
        return folder


def _copy_gate_files(source: Path, folder: Path) -> None:
    """What the gate reads of an evaluation, without its videos."""
    for name in (RECORD_FILE, FEATURES_FILE):
        if (source / name).is_file():
            shutil.copyfile(source / name, folder / name)


def freeze_baseline(root: Path, params: Params) -> str:
    """Make the champion's evaluation the frozen baseline; what was done, in words.

    It is the workspace's own where the champion is the model in it, else the one in the registry. Raises `UserError`
    where there is no champion, or none that was evaluated.
    """
    champion, folder = with_alias(root, TEXT_TO_VIDEO, CHAMPION), root / params.gate.frozen
    if champion is None:
        raise UserError("there is no champion to freeze; run `reelforge run` until there is one")
    source = _newest_evaluation(root, champion)
    if source is None:
        raise UserError(f"{champion} was never evaluated: `reelforge run` does that for the next candidate")
    with fresh_folder(folder) as made:
        _copy_gate_files(source, made)
    return (
        f"{folder.name} holds the evaluation of {champion}, {champion.digest[:12]}; commit it, and say in"
        " gate.frozen_margins what may be lost since then"
    )


def _newest_evaluation(root: Path, champion: Version) -> Path | None:
    own = root / EVALUATION
    if (own / RECORD_FILE).is_file() and EvaluationRecord.read(own).model_sha256 == champion.digest:
        return own
    stored = fetch_evaluation(root, champion.digest)
    return stored if stored and (stored / RECORD_FILE).is_file() else None
