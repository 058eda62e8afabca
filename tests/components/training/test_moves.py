"""Runs on other processes or at another ZeRO stage, from the start or from a checkpoint, see the same samples and have
the same losses.
"""

import pytest
import torch

from components.errors import UserError
from components.training.checkpoint_files import read_state
from components.training.resume import settled
from tests.forked_training import Job, ids_by_position, losses_by_step, records, start, weights
from tests.tiny_training import loop_config, loop_paths

MOVES = [  # processes and ZeRO stage before and after
    ((2, 0), (1, 0)),
    ((1, 0), (2, 0)),
    ((2, 1), (1, 3)),
    ((1, 3), (2, 2)),
]


STEP = 4  # batches
STARTS = [(1, 0), (2, 0), (2, 2)]  # processes and ZeRO stage


@pytest.fixture(scope="module")
def moved(tmp_path_factory):
    """Runs by two batches a step: one straight, and one per move that is cut after step 8 and goes on elsewhere.

    And whole runs by `STEP` batches a step on the processes of STARTS.
    """
    root = tmp_path_factory.mktemp("moved")
    config = {"steps": 16, "checkpoint_steps": 4, "log_steps": 1}
    jobs = [Job(str(root / "straight"), 2, config)]
    for number, (before, after) in enumerate(MOVES):
        for (processes, zero_stage), kill_after in ((before, True), (after, False)):
            changes = {**config, "zero_stage": zero_stage, "accumulation": 2 // before[0]}
            batches = (2 // before[0]) * 10 if kill_after else None
            jobs.append(Job(str(root / f"{number}"), processes, changes, kill_after=batches))
    whole = {"steps": 10, "checkpoint_steps": 5, "log_steps": 1, "step_batches": STEP}
    for processes, zero_stage in STARTS:
        changes = {**whole, "zero_stage": zero_stage}
        jobs.append(Job(str(root / f"{processes}-{zero_stage}"), processes, changes))
    assert start(root, jobs) == [0, *[-9, 0] * len(MOVES), *[0] * len(STARTS)]
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
    # an epoch is 9 batches of one bucket and 5 of the other
    assert (state["position"], state["epoch"]) == (32, 2)
    assert records(elsewhere) != records(straight)


@pytest.mark.parametrize(("processes", "zero_stage"), STARTS[1:])
def test_from_the_start_the_number_of_processes_changes_no_result(moved, processes, zero_stage):
    alone, shared = moved / "1-0", moved / f"{processes}-{zero_stage}"
    assert ids_by_position(shared) == ids_by_position(alone)
    assert sorted(ids_by_position(alone)) == list(range(10 * STEP))
    expected = losses_by_step(alone, STEP)
    assert len(expected) == 10
    assert losses_by_step(shared, STEP) == pytest.approx(expected, rel=0, abs=1e-5)
    torch.testing.assert_close(weights(shared), weights(alone), rtol=0, atol=1e-5)
    # each process took its share of every step
    assert len(ids_by_position(shared)) == len(records(shared)) == 10 * STEP
    for rank in range(processes):
        lines = (shared / f"rank-{rank}.jsonl").read_text().splitlines()
        assert len(lines) == 10 * STEP // processes


@pytest.mark.parametrize(("readers", "accumulation"), [(1, 6), (2, 3), (3, 2), (6, 1)])
def test_accumulation_follows_from_the_batches_of_a_step(readers, accumulation):
    assert settled(loop_config(step_batches=6), None, readers=readers).accumulation == accumulation
    assert settled(loop_config(accumulation=5), None, readers=readers).accumulation == 5


@pytest.mark.parametrize("readers", [4, 5, 12])
def test_processes_that_cannot_share_a_step_are_refused_with_those_that_can(readers):
    with pytest.raises(
        UserError, match=rf"6 batches .* {readers} processes cannot.*start 1, 2, 3, 6 processes"
    ):
        settled(loop_config(step_batches=6), None, readers=readers)


def test_a_step_is_given_in_one_way():
    with pytest.raises(ValueError, match="accumulation follows from step_batches"):
        loop_config(step_batches=6, accumulation=2)
