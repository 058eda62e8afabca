"""Runs that are killed, resharded or moved to other ZeRO stages see the same samples and end with the same weights."""

import random
from pathlib import Path

import pytest
import torch

from components.training.checkpoint_files import check_files, read_state
from tests.forked_training import Job, records, start
from tests.tiny_training import loop_paths

LONG = {"steps": 48, "checkpoint_steps": 3, "ema": [0.9, 0.5]}


def weights(root: Path):
    return torch.load(root / "weights.pt")


def flat(state):
    return {
        name: value
        for part in (state["weights"], *state["averages"].values())
        for name, value in part.items()
    }


def ids_by_position(root: Path):
    """Position -> sample ids; every time a position was trained on, they were the same."""
    found = {}
    for record in records(root):
        assert found.setdefault(record["position"], record["ids"]) == record["ids"]
    return found


def losses_by_step(root: Path, step_batches: int):
    """Mean loss over the batches of each step."""
    losses = {record["position"]: record["loss"] for record in records(root)}
    steps = len(losses) // step_batches
    return [
        sum(losses[step * step_batches + batch] for batch in range(step_batches)) / step_batches
        for step in range(steps)
    ]


@pytest.mark.parametrize("processes", [1, 2])
def test_a_run_that_was_killed_ten_times_is_the_run_that_was_not(tmp_path, processes):
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    draw = random.Random(processes)
    kills = [Job(str(killed), processes, LONG, kill_after=draw.randint(3, 7)) for _ in range(10)]
    codes = start(tmp_path, [Job(str(straight), processes, LONG), *kills, Job(str(killed), processes, LONG)])
    assert codes == [0, *[-9] * 10, 0]
    assert ids_by_position(killed) == ids_by_position(straight)
    assert set(ids_by_position(straight)) == set(range(48 * processes))
    assert len(records(killed)) > 48 * processes  # some steps were done again
    torch.testing.assert_close(weights(killed), weights(straight), rtol=0, atol=0)
    curves = [loop_paths(root).output("curve").read_bytes() for root in (straight, killed)]
    assert curves[0] == curves[1]


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


def test_a_kill_in_the_middle_of_writing_leaves_no_half_checkpoint(tmp_path):
    config = {"steps": 40, "checkpoint_steps": 1}
    root = tmp_path / "run"
    jobs = [Job(str(root), 1, config, kill_in_writing=True, width=100_000) for _ in range(3)]
    assert start(tmp_path, jobs) == [-9] * 3
    checkpoints = loop_paths(root).checkpoints
    assert list(checkpoints.glob(".step-*.partial"))  # what the last kill left
    for folder in checkpoints.glob("step-*"):
        check_files(folder, read_state(folder)["files"])
