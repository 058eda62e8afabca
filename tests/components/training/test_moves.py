"""Runs that go on with other processes or at another ZeRO stage see the same samples and have the same losses."""

import pytest
import torch

from components.training.checkpoint_files import read_state
from tests.forked_training import Job, ids_by_position, losses_by_step, records, start, weights
from tests.tiny_training import loop_paths

MOVES = [  # processes and ZeRO stage before and after
    ((2, 0), (1, 0)),
    ((1, 0), (2, 0)),
    ((2, 1), (1, 3)),
    ((1, 3), (2, 2)),
]


@pytest.fixture(scope="module")
def moved(tmp_path_factory):
    """Runs by two batches a step: one straight, and one per move that is cut after step 8 and goes on elsewhere."""
    root = tmp_path_factory.mktemp("moved")
    config = {"steps": 16, "checkpoint_steps": 4, "log_steps": 1}
    jobs = [Job(str(root / "straight"), 2, config)]
    for number, (before, after) in enumerate(MOVES):
        for (processes, zero_stage), kill_after in ((before, True), (after, False)):
            changes = {**config, "zero_stage": zero_stage, "accumulation": 2 // before[0]}
            batches = (2 // before[0]) * 10 if kill_after else None
            jobs.append(Job(str(root / f"{number}"), processes, changes, kill_after=batches))
    assert start(root, jobs) == [0, *[-9, 0] * len(MOVES)]
    return root


@pytest.mark.parametrize("number", range(len(MOVES)), ids=[f"{before}-{after}" for before, after in MOVES])
def test_on_other_processes_and_zero_stages_a_run_goes_on_as_before(moved, number):
    straight, elsewhere = moved / "straight", moved / str(number)
    assert ids_by_position(elsewhere) == ids_by_position(straight)
    expected = losses_by_step(straight, 2)
    assert len(expected) == 16
    assert losses_by_step(elsewhere, 2) == pytest.approx(expected, rel=0, abs=1e-5)
    torch.testing.assert_close(weights(elsewhere), weights(straight), rtol=0, atol=1e-5)
    (final,) = loop_paths(elsewhere).checkpoints.glob("step-000016")
    state = read_state(final)
    assert state["world_size"] == MOVES[number][1][0]
    assert (state["position"], state["epoch"]) == (
        32,
        2,
    )  # an epoch is 9 batches of one bucket and 5 of the other
    assert records(elsewhere) != records(straight)
