"""Register, promote and fetch back, through a real MLflow on SQLite."""

import io
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import av
import mlflow
import numpy as np
import pytest
from mlflow.exceptions import MlflowException

from components.artifacts import sha256_of
from components.errors import ContractError, UserError
from components.evaluation.record import EvaluationRecord
from components.registry import lock
from components.registry.baseline import freeze_baseline, sync_baseline
from components.registry.fetch import champion_line, fetch_pipeline
from components.registry.history import HISTORY, read_history, shared_history
from components.registry.lineage import versions_that_saw
from components.registry.policy.contestant import Contestant
from components.registry.promote import PromotionRefusedError, promote_by_hand, promote_by_verdict, rollback
from components.registry.register import register_candidate
from components.registry.versions import AUTOENCODER, TEXT_TO_VIDEO, versions, with_alias
from components.tracking_writer import connect
from tests.components.registry.contestants import contestant, with_metric, without
from tests.components.registry.release_files import REPOSITORY, judge, make_release, write_evaluation


def champion(root: Path) -> int | None:
    found = with_alias(root, TEXT_TO_VIDEO, "champion")
    return found.number if found else None


def pixels_of(video: bytes) -> np.ndarray:
    """Frames (T, H, W, 3) of an MP4 file."""
    with av.open(io.BytesIO(video)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    return np.stack(frames).astype(float)


@pytest.fixture(scope="module")
def released(tmp_path_factory, empty_database):
    """A workspace whose first model is champion."""
    root = tmp_path_factory.mktemp("released")
    shutil.copyfile(empty_database, root / "mlflow.db")
    params = make_release(root)
    promote_by_verdict(root, params, register_candidate(root, params))
    return root, params


def test_the_champion_generates_videos_through_pyfunc(released, monkeypatch):
    root, _ = released
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{root / 'mlflow.db'}")
    model = mlflow.pyfunc.load_model(f"models:/{TEXT_TO_VIDEO}@champion")
    prompts = ["a red circle moves left", "a blue square moves up"]
    videos = model.predict(prompts, params={"seed": 3, "num_frames": 9})
    assert len(videos) == 2
    assert pixels_of(videos[0]).shape == (9, 16, 16, 3)
    again = model.predict(prompts, params={"seed": 3, "num_frames": 9})
    assert again == videos


def test_a_version_asks_for_the_packages_that_it_was_made_and_judged_with(released):
    """Whoever serves it next year gets these, and not what is newest then."""
    root, _ = released
    version = with_alias(root, TEXT_TO_VIDEO, "champion")
    file = connect(root).download_artifacts(version.run_id, "model/requirements.txt")
    asked = dict(line.split("==") for line in Path(file).read_text().split())
    assert {"mlflow", "torch", "diffusers", "transformers", "safetensors"} <= set(asked)
    assert asked == {name: metadata.version(name).partition("+")[0] for name in asked}


def test_the_champion_can_be_fetched_as_a_pipeline_folder(released):
    root, _ = released
    folder = fetch_pipeline(root, "champion")
    assert sha256_of(folder) == sha256_of(root / "artifacts/pipeline")
    assert fetch_pipeline(root, "champion") == folder
    assert champion_line(root).startswith(f"{TEXT_TO_VIDEO} v1, since 2")
    with pytest.raises(UserError, match="reelforge run"):
        fetch_pipeline(root, "previous")


def test_the_same_weights_are_registered_once(released):
    root, params = released
    numbers = register_candidate(root, params)
    assert numbers == {AUTOENCODER: "1", TEXT_TO_VIDEO: "1"}
    assert len(versions(root, TEXT_TO_VIDEO)) == 1


def test_a_repeated_release_changes_nothing(released):
    root, params = released
    before = (root / HISTORY).read_bytes()
    assert "already" in promote_by_verdict(root, params, {AUTOENCODER: "1", TEXT_TO_VIDEO: "1"})
    assert (root / HISTORY).read_bytes() == before
    assert not sync_baseline(root, params)


def test_a_version_says_what_it_is_made_of(released):
    root, _ = released
    version = with_alias(root, TEXT_TO_VIDEO, "champion")
    assert version.digest == sha256_of(root / "artifacts/pipeline")
    assert version.tags["verdict"] == "promote"
    assert version.tags["metric.toy_fvd"] == "toy_fvd@test"
    assert version.tags["parent.autoencoder"] == f"{AUTOENCODER} v1"
    assert with_alias(root, AUTOENCODER, "champion").number == 1


def test_lineage_answers_which_versions_saw_a_clip_a_source_and_a_licence(released):
    root, _ = released
    (seen,) = versions_that_saw(root, source="one.mp4")
    assert (seen.version.number, seen.split, seen.clips) == (1, "train", ("a0", "a1"))
    (seen,) = versions_that_saw(root, licence="proprietary")
    assert (seen.split, seen.clips) == ("validation", ("b0",))
    assert versions_that_saw(root, clip="a2") == []  # a duplicate that was dropped
    assert versions_that_saw(root, clip="a1")[0].clips == ("a1",)


def test_a_better_model_takes_over_and_a_rollback_gives_back(root):
    first = make_release(root, seed=1, damage=1.5)
    promote_by_verdict(root, first, register_candidate(root, first))
    second = make_release(root, seed=2, damage=0.0)
    assert sync_baseline(root, second)
    assert judge(root, second).startswith("promote")
    said = promote_by_verdict(root, second, register_candidate(root, second))
    assert "in place of v1" in said
    assert champion(root) == 2
    assert with_alias(root, TEXT_TO_VIDEO, "previous").number == 1
    assert not sync_baseline(root, second), "a second run must find nothing to do"
    rollback(root, "flicker seen by a user")
    assert champion(root) == 1
    assert [entry["event"] for entry in read_history(root)] == ["promoted", "promoted", "rolled back to"]


@pytest.mark.parametrize(
    "before",
    [{"identity": "colour_accuracy@other weights"}, None],
    ids=["measured otherwise", "not measured"],
)
def test_a_champion_is_evaluated_again_where_a_metric_was_measured_in_another_way(root, monkeypatch, before):
    """Weights of a published network, or a metric that is asked for since, are in identities and in no protocol."""
    params = make_release(root, seed=1, damage=1.5)
    side = Contestant.read(root / "artifacts/evaluate")
    old = with_metric(side, "colour_accuracy", **before) if before else without(side, "colour_accuracy")
    write_evaluation(root / "artifacts/evaluate", old)
    promote_by_verdict(root, params, register_candidate(root, params))
    params = make_release(root, seed=2, damage=0.0)
    asked = []

    def evaluate(_root, _params, pipeline, output):
        asked.append(sha256_of(pipeline))
        output.mkdir()
        write_evaluation(output, side)

    monkeypatch.setattr("components.registry.baseline.evaluate_model", evaluate)
    assert sync_baseline(root, params)
    assert asked == [with_alias(root, TEXT_TO_VIDEO, "champion").digest]
    assert not sync_baseline(root, params)
    assert len(asked) == 1, "a second run must find nothing to do"


def test_a_model_that_is_not_better_stays_a_candidate(root):
    params = make_release(root, seed=1, damage=0.0)
    promote_by_verdict(root, params, register_candidate(root, params))
    params = make_release(root, seed=2, damage=1.0)
    sync_baseline(root, params)
    assert judge(root, params).startswith("reject")
    numbers = register_candidate(root, params)
    assert "stays a candidate" in promote_by_verdict(root, params, numbers)
    promote_by_verdict(root, params, numbers)
    assert champion(root) == 1
    assert with_alias(root, TEXT_TO_VIDEO, "candidate").number == 2
    assert [entry["event"] for entry in read_history(root)] == ["promoted", "kept back"]


@pytest.mark.parametrize(("steps", "again"), [(20, []), (10, ["champion"])])
def test_a_champion_is_evaluated_again_where_the_candidate_was_asked_for_something_else(
    root, monkeypatch, steps, again
):
    """Not where it only has a sampler of its own, as a champion of another system has: that would never end."""
    evaluated = []

    def ask(folder, **generation):
        record = EvaluationRecord.read(folder)
        replace(record, protocol={"frames": 9, "generation": generation}).write(folder)

    def evaluate(_root, _params, _pipeline, output):
        evaluated.append("champion")
        shutil.copytree(root / "of_the_champion", output)
        ask(output, steps=20, sampler="ddim, trailing")

    monkeypatch.setattr("components.registry.baseline.evaluate_model", evaluate)
    first = make_release(root, seed=1, damage=0.5)
    ask(root / "artifacts/evaluate", steps=steps, sampler="ddim, trailing")
    shutil.copytree(root / "artifacts/evaluate", root / "of_the_champion")
    promote_by_verdict(root, first, register_candidate(root, first))
    second = make_release(root, seed=2, damage=0.0)
    ask(root / "artifacts/evaluate", steps=20, sampler="euler")
    assert sync_baseline(root, second)
    assert not sync_baseline(root, second)
    assert evaluated == again


def test_a_verdict_about_another_model_promotes_nothing(root):
    params = make_release(root)
    numbers = register_candidate(root, params)
    write_evaluation(root / "artifacts/evaluate", contestant("another model", seed=0))
    judge(root, params)
    with pytest.raises(PromotionRefusedError, match="about the model another"):
        promote_by_verdict(root, params, numbers)
    assert champion(root) is None


RELEASE = """
import sys
from pathlib import Path
from components.imports import end_quickly, load
end_quickly()
load("components.registry.promote")
from components.params import Params
from components.registry.promote import PromotionRefusedError, promote_by_verdict
root = Path(sys.argv[1])
try:
    print(promote_by_verdict(root, Params.load(root / "params.yaml"), dict(zip(sys.argv[2::2], sys.argv[3::2]))))
except PromotionRefusedError as error:
    print(f"refused: {error}")
"""


def test_of_two_promotions_at_once_one_wins_and_the_other_is_refused(root):
    """Two processes in two workspaces that share nothing but the registry. Both verdicts know no champion."""
    workspaces = []
    for seed in (1, 2):
        params = make_release(root, seed=seed)
        numbers = register_candidate(root, params)
        own = root / f"workspace-{seed}"
        (own / "artifacts/gate").mkdir(parents=True)
        shutil.copyfile(root / "artifacts/gate/verdict.json", own / "artifacts/gate/verdict.json")
        shutil.copyfile(root / "params.yaml", own / "params.yaml")
        workspaces.append([str(own), *(word for pair in numbers.items() for word in pair)])
    environment = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{root / 'mlflow.db'}"}
    releases = [
        subprocess.Popen(
            [sys.executable, "-c", RELEASE, *arguments],
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
            cwd=REPOSITORY,
        )
        for arguments in workspaces
    ]
    outcomes = [release.communicate(timeout=600)[0] for release in releases]
    assert sum("is the champion now" in outcome for outcome in outcomes) == 1, outcomes
    assert sum("judge again" in outcome for outcome in outcomes) == 1, outcomes
    assert champion(root) in (1, 2)
    assert [entry["event"] for entry in shared_history(root)] == ["promoted"]
    winner = Path(workspaces[["is the champion now" in outcome for outcome in outcomes].index(True)][0])
    assert read_history(winner) == shared_history(root)


def test_an_override_is_recorded_with_who_answers_for_it_and_why(root):
    params = make_release(root, seed=1, damage=0.0)
    promote_by_verdict(root, params, register_candidate(root, params))
    params = make_release(root, seed=2, damage=1.0)
    sync_baseline(root, params)
    judge(root, params)
    promote_by_verdict(root, params, register_candidate(root, params))
    with pytest.raises(UserError, match="name of who answers for it and the reason"):
        promote_by_hand(root, 2, person=" ", reason="it looks better")
    with pytest.raises(UserError, match="has no version 7; it has 1, 2"):
        promote_by_hand(root, 7, person="A. Reviewer", reason="it looks better")
    assert champion(root) == 1
    said = promote_by_hand(root, 2, person="A. Reviewer", reason="raters prefer it")
    assert "by override of A. Reviewer" in said
    assert champion(root) == 2
    assert with_alias(root, TEXT_TO_VIDEO, "previous").number == 1
    last = shared_history(root)[-1]
    assert (last["event"], last["version"], last["champion_before"]) == ("promoted by override", 2, 1)
    assert last["reason"] == "override by A. Reviewer of the verdict `reject`: raters prefer it"


def test_a_lock_whose_holder_has_died_is_taken_over(root, monkeypatch):
    client = connect(root)
    client.create_registered_model(lock.LOCK, tags={"holder": "gone", "since": f"{time.time() - 1e4:.3f}"})
    with lock.registry_lock(root):
        assert client.get_registered_model(lock.LOCK).tags["holder"] != "gone"
    monkeypatch.setattr(lock, "WAIT_SECONDS", 0.5)
    client.create_registered_model(lock.LOCK, tags={"holder": "busy", "since": f"{time.time():.3f}"})
    with (
        pytest.raises(UserError, match="delete the registered model `reelforge-lock`"),
        lock.registry_lock(root),
    ):
        pytest.fail("two at a time")


def test_a_lock_is_not_taken_over_while_its_holder_is_at_work(root, monkeypatch):
    """As during the upload of a model of many gigabytes."""
    monkeypatch.setattr(lock, "STALE_SECONDS", 1.0)
    monkeypatch.setattr(lock, "BEAT_SECONDS", 0.1)
    monkeypatch.setattr(lock, "WAIT_SECONDS", 2.5)
    client = connect(root)
    with lock.registry_lock(root):
        own = client.get_registered_model(lock.LOCK).tags["holder"]
        with pytest.raises(UserError, match="another release"):
            lock._acquire(client, "another")
        assert client.get_registered_model(lock.LOCK).tags["holder"] == own
    with pytest.raises(MlflowException):
        client.get_registered_model(lock.LOCK)


def test_without_a_champion_nothing_is_frozen(root):
    with pytest.raises(UserError, match="no champion to freeze"):
        freeze_baseline(root, make_release(root, seed=1))


def test_going_back_without_a_previous_champion_is_a_clear_error(root):
    with pytest.raises(UserError, match="no previous champion"):
        rollback(root, "no reason")


def test_a_changed_line_of_the_history_is_found(released, tmp_path):
    root, _ = released
    copy = tmp_path / HISTORY
    copy.parent.mkdir()
    lines = (root / HISTORY).read_text().splitlines()
    forged = json.dumps({**json.loads(lines[0]), "reason": "because"}, sort_keys=True)
    copy.write_text("\n".join([forged, lines[0]]) + "\n")
    with pytest.raises(ContractError, match="line 2"):
        read_history(tmp_path)


def test_registration_leaves_no_run_open(released):
    root, _ = released
    client = connect(root)
    experiment = client.get_experiment_by_name("reelforge")
    runs = client.search_runs([experiment.experiment_id])
    assert {run.info.status for run in runs} == {"FINISHED"}
