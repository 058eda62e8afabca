"""Runs that are killed see the same samples and end with the same weights."""

import random

import pytest
import torch

from components.training.checkpoint_files import check_files, read_state
from tests.forked_training import Job, ids_by_position, records, start, weights
from tests.tiny_training import loop_paths

LONG = {"steps": 48, "checkpoint_steps": 3, "ema": [0.9, 0.5]}


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


def test_a_kill_in_the_middle_of_writing_leaves_no_half_checkpoint(tmp_path):
    config = {"steps": 40, "checkpoint_steps": 1}
    root = tmp_path / "run"
    jobs = [Job(str(root), 1, config, kill_in_writing=True, width=100_000) for _ in range(3)]
    assert start(tmp_path, jobs) == [-9] * 3
    checkpoints = loop_paths(root).checkpoints
    assert list(checkpoints.glob(".step-*.partial"))  # what the last kill left
    for folder in checkpoints.glob("step-*"):
        check_files(folder, read_state(folder)["files"])
