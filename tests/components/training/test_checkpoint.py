"""Checkpoints are whole or not there, and only the work they belong to takes them up."""

import shutil

import pytest

from components.artifacts import StagePaths, read_json, write_json
from components.errors import UserError
from components.training.checkpoint import fingerprint_of, remove_checkpoints
from tests.tiny_training import Regression, loop_config, loop_paths, run_tiny


def folders(root):
    return sorted(path.name for path in loop_paths(root).checkpoints.glob("*step-*"))


def test_the_last_two_checkpoints_are_kept(tmp_path):
    run_tiny(tmp_path, loop_config(checkpoint_steps=2), Regression())
    assert folders(tmp_path) == ["step-000010", "step-000012"]
    remove_checkpoints(loop_paths(tmp_path))
    assert not loop_paths(tmp_path).checkpoints.exists()


def test_checkpoints_of_other_parameters_are_removed_and_the_run_starts_again(tmp_path, caplog):
    run_tiny(tmp_path, loop_config(), Regression(), fingerprint="old")
    program = Regression()
    assert run_tiny(tmp_path, loop_config(), program, fingerprint="new").resumed_at == 0
    assert len(program.losses) == 12
    assert "other parameters or inputs" in caplog.text
    states = [read_json(path) for path in loop_paths(tmp_path).checkpoints.glob("step-*/state.json")]
    assert {state["fingerprint"] for state in states} == {"new"}


def test_a_checkpoint_that_a_kill_left_unfinished_is_not_taken_up(tmp_path):
    run_tiny(tmp_path, loop_config(), Regression())
    checkpoints = loop_paths(tmp_path).checkpoints
    (checkpoints / "step-000012").rename(checkpoints / ".step-000012.partial")
    (checkpoints / "step-000099").mkdir()  # without a state
    shutil.copytree(checkpoints / "step-000010", checkpoints / ".step-000013.partial")
    program = Regression()
    assert run_tiny(tmp_path, loop_config(), program).resumed_at == 10
    assert len(program.losses) == 2


def test_another_number_of_processes_is_refused_with_the_way_out(tmp_path):
    run_tiny(tmp_path, loop_config(), Regression())
    state = loop_paths(tmp_path).checkpoints / "step-000012/state.json"
    write_json(state, {**read_json(state), "world_size": 4})
    with pytest.raises(UserError, match="written by 4 processes and this run has 1"):
        run_tiny(tmp_path, loop_config(), Regression())


@pytest.fixture
def paths(tmp_path):
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights/a.bin").write_text("1")
    (tmp_path / "clips.json").write_text("{}")
    inputs = {
        "initial": tmp_path / "weights",
        "clips": tmp_path / "clips.json",
        "videos": tmp_path / "videos",
    }
    return StagePaths(tmp_path, inputs, {}, tmp_path / "checkpoints")


def test_the_fingerprint_follows_every_parameter_and_every_input(paths):
    first = fingerprint_of(loop_config(), paths)
    assert fingerprint_of(loop_config(), paths) == first
    others = {first, fingerprint_of(loop_config(seed=4), paths), fingerprint_of(loop_config(ema=0.8), paths)}
    (paths.root / "clips.json").write_text("[]")
    others.add(fingerprint_of(loop_config(), paths))
    (paths.root / "weights/a.bin").write_text("2")
    others.add(fingerprint_of(loop_config(), paths))
    assert len(others) == 5


def test_how_often_a_run_logs_and_saves_may_change_while_it_is_paused(paths):
    assert fingerprint_of(loop_config(), paths) == fingerprint_of(
        loop_config(log_steps=1, checkpoint_steps=1), paths
    )
