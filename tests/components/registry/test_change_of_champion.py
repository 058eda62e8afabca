"""Who is champion after a promotion or a rollback that was stopped, repeated, or taken back by a person."""

import shutil

import pytest
from mlflow import MlflowClient

from components.artifacts import sha256_of
from components.registry.baseline import freeze_baseline, sync_baseline
from components.registry.history import read_history
from components.registry.policy.contestant import Contestant
from components.registry.promote import promote_by_hand, promote_by_verdict, rollback
from components.registry.register import register_candidate
from components.registry.versions import AUTOENCODER, TEXT_TO_VIDEO, with_alias
from components.tracking_writer import connect
from tests.components.registry.release_files import judge, make_release


@pytest.fixture(scope="module")
def prepared(tmp_path_factory, empty_database):
    """A workspace with a champion and a better candidate; its parameters and the candidate's numbers."""
    root = tmp_path_factory.mktemp("prepared")
    shutil.copyfile(empty_database, root / "mlflow.db")
    first = make_release(root, seed=1, damage=1.5)
    promote_by_verdict(root, first, register_candidate(root, first))
    second = make_release(root, seed=2, damage=0.0)
    sync_baseline(root, second)
    judge(root, second)
    return root, second, register_candidate(root, second)


@pytest.fixture
def challenged(prepared, tmp_path):
    """A copy of it, for one test."""
    source, params, numbers = prepared
    root = tmp_path / "workspace"
    shutil.copytree(source, root)
    return root, params, numbers


def champion(root):
    return with_alias(root, TEXT_TO_VIDEO, "champion").number


def test_a_champion_that_was_rolled_back_is_not_promoted_again_by_the_same_verdict(challenged):
    """As by the next nightly run, for which the verdict of the gate is still up to date."""
    root, params, numbers = challenged
    promote_by_verdict(root, params, numbers)
    rollback(root, "flicker seen by a user")
    assert not sync_baseline(root, params)
    said = promote_by_verdict(root, params, register_candidate(root, params))
    assert champion(root) == 1
    assert "rolled back" in said
    assert "flicker seen by a user" in said
    assert "--override --version 2" in said
    assert [entry["event"] for entry in read_history(root)][2:] == ["rolled back to", "kept back"]
    promote_by_verdict(root, params, register_candidate(root, params))
    assert len(read_history(root)) == 4
    promote_by_hand(root, 2, person="A. Reviewer", reason="it was the player")
    assert champion(root) == 2
    assert "already" in promote_by_verdict(root, params, numbers)


def test_what_is_frozen_is_the_champions_evaluation_right_after_its_promotion(challenged):
    """The folder that the gate compared with still holds the champion before it."""
    root, params, numbers = challenged
    first = with_alias(root, TEXT_TO_VIDEO, "champion")
    freeze_baseline(root, params)
    assert Contestant.read(root / "frozen_baseline").model_sha256 == first.digest
    promote_by_verdict(root, params, numbers)
    digest = sha256_of(root / "artifacts/pipeline")
    assert f"holds the evaluation of {TEXT_TO_VIDEO} v2, {digest[:12]}" in freeze_baseline(root, params)
    frozen = Contestant.read(root / "frozen_baseline")
    assert frozen.model_sha256 == digest
    assert frozen.lacks(frozen.metric("toy_fvd").distance) == ""


WRITES = ("set_registered_model_tag", "set_registered_model_alias", "delete_registered_model_tag")


def stop_after(patch, count):
    """The process ends at the first write to the registry that comes after `count` of them."""
    done = []

    def guarded(name, write):
        def until(*arguments):
            if len(done) == count:
                raise KeyboardInterrupt
            done.append(name)
            return write(*arguments)

        return until

    for name in WRITES:
        patch.setattr(MlflowClient, name, guarded(name, getattr(MlflowClient, name)))


def moves(root):
    """What the history says of changes of the champion: event, version, the one before."""
    return [
        (entry["event"], entry["version"], entry["champion_before"])
        for entry in read_history(root)
        if entry["event"] != "kept back"
    ]


@pytest.mark.parametrize("writes", range(6))
def test_a_promotion_that_was_killed_at_any_place_is_finished_by_the_next_release(
    challenged, monkeypatch, writes
):
    root, params, numbers = challenged
    connect(root).delete_registered_model_alias(AUTOENCODER, "champion")
    with monkeypatch.context() as patch:
        stop_after(patch, writes)
        with pytest.raises(KeyboardInterrupt):
            promote_by_verdict(root, params, numbers)
    promote_by_verdict(root, params, numbers)
    assert champion(root) == 2
    assert with_alias(root, TEXT_TO_VIDEO, "previous").number == 1
    assert with_alias(root, AUTOENCODER, "champion").number == int(numbers[AUTOENCODER])
    assert moves(root) == [("promoted", 1, None), ("promoted", 2, 1)]
    assert "already" in promote_by_verdict(root, params, numbers)


@pytest.mark.parametrize("writes", range(5))
def test_a_rollback_that_was_killed_at_any_place_can_be_repeated(challenged, monkeypatch, writes):
    root, params, numbers = challenged
    promote_by_verdict(root, params, numbers)
    with monkeypatch.context() as patch:
        stop_after(patch, writes)
        with pytest.raises(KeyboardInterrupt):
            rollback(root, "flicker")
    rollback(root, "flicker")
    assert champion(root) == 1
    assert with_alias(root, TEXT_TO_VIDEO, "previous").number == 2
    assert moves(root)[2:] == [("rolled back to", 1, 2)]
