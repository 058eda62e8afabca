"""Stages of the shifted-window and the causal model: each learns, and starts from what came before."""

import pytest

from components.errors import ContractError, UserError
from tests.tiny_systems import Workspace, assert_taken_over, fell, losses


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    return Workspace(tmp_path_factory.mktemp("systems"))


@pytest.fixture(scope="module")
def hdvila(workspace):
    model = {"preset": "hdvila-hourglass-tiny"}
    return workspace.run("hdvila@stage1", {"16px": {9: (1.0, 8)}}, model=model)


@pytest.fixture(scope="module")
def causal_model(workspace):
    model = {"preset": "causal-5b-tiny", "changes": {"frame_blocks": {"size": 2, "first": 1}}}
    return workspace.run("causal@stage1", {"16px": {1: (1.0, 8), 9: (1.0, 8)}}, model=model)


def test_the_shifted_window_model_learns(hdvila):
    assert fell(hdvila) > 2.0


def test_the_causal_model_learns_from_blocks(causal_model):
    assert fell(causal_model) > 2.0


def test_the_second_resolution_starts_from_the_first_without_loss(workspace, hdvila):
    paths = workspace.run("hdvila@stage2", {"32px": {9: (1.0, 4)}}, initial=hdvila, steps=20)
    assert losses(paths)[0] < losses(hdvila)[0] / 1.5
    assert losses(hdvila)[0] / losses(paths)[-1] > 2.0
    assert_taken_over(paths)


def test_several_sizes_at_once_start_from_the_small_one(workspace, causal_model):
    buckets = {"32px": {9: (0.5, 4)}, "16px": {1: (1.0, 8), 9: (1.0, 8)}}
    paths = workspace.run("causal@stage2", buckets, initial=causal_model, steps=20)
    assert losses(paths)[0] < losses(causal_model)[0] / 1.5
    assert losses(causal_model)[0] / losses(paths)[-1] > 2.0
    assert_taken_over(paths)


def test_changes_beside_a_model_that_is_built_are_refused_and_not_passed_over(workspace):
    built = {"model": {"preset": "hdvila-hourglass-tiny"}, "changes": {"qk_norm": False}}
    with pytest.raises(UserError, match=r"move `changes` there"):
        workspace.run("hdvila@stage1", {"16px": {9: (1.0, 8)}}, **built)


def test_weights_of_another_objective_are_refused(workspace, causal_model):
    with pytest.raises(ContractError, match="trained with teacher_forcing and this stage with flow"):
        workspace.run("hdvila@stage2", {"32px": {9: (1.0, 4)}}, initial=causal_model)
