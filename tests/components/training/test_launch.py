"""A stage of two processes ends as if nothing had happened, when one hangs, is killed, or all are asked to stop."""

import os
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import yaml

from components.artifacts import read_json, sha256_of
from components.errors import Interruption, UserError
from components.training.config import LaunchConfig
from components.training.launch import Job, LostRanksError, launch_stage, report_outcome
from components.training.launch_torchrun import start_torchrun
from tests.stage_workspace import SECONDS, STAGE, make_workspace, start, wait_for_step

MADE = ("artifacts/train/stage1", f"curves/{STAGE}.csv", f"reports/{STAGE}.json")
CHANGES = {"steps": 120, "checkpoint_steps": 10}


def settings(kind: str, hang_seconds: float = 60.0) -> dict[str, object]:
    launch = {"kind": kind, "processes": 2, "stop_seconds": 20, "restarts": 2}
    return {"launch": launch, "hang_minutes": hang_seconds / 60}


def change_settings(root: Path, **changes: object) -> None:
    """Change what has no influence on a result."""
    path = root / "params.yaml"
    raw = yaml.safe_load(path.read_text())
    raw["runtime"] |= changes
    path.write_text(yaml.safe_dump(raw))


def finished(process: "subprocess.Popen[str]") -> tuple[int, str]:
    said = process.communicate(timeout=SECONDS)[1]
    return process.returncode, said


def rank_process(process: "subprocess.Popen[str]", rank: int) -> psutil.Process:
    """The process of one rank."""
    for child in psutil.Process(process.pid).children(recursive=True):
        try:
            environment = child.environ()
            if environment.get("RANK") == str(rank) and STAGE in child.cmdline():
                return child
        except psutil.Error:
            continue
    raise AssertionError(f"rank {rank} is not among the processes")


@pytest.fixture(scope="module")
def straight(tmp_path_factory) -> Path:
    """The stage by two processes of torchrun, uninterrupted."""
    root = make_workspace(tmp_path_factory.mktemp("straight"), settings("torchrun"), **CHANGES)
    code, said = finished(start(root))
    assert code == 0, said
    return root


@dataclass(frozen=True)
class Life:
    """One run through all that can happen to it, and what was said of each part."""

    root: Path
    stopped_code: int
    stopped_at: int  # step of the newest checkpoint then
    under_torchrun: str  # a rank hung; the group was started again, and then asked to stop
    code: int
    under_ray: str  # it went on, lost a rank, and came to its end


@pytest.fixture(scope="module")
def life(tmp_path_factory) -> Life:
    root = make_workspace(tmp_path_factory.mktemp("life"), settings("torchrun", hang_seconds=10), **CHANGES)
    process = start(root)
    wait_for_step(root, 20, process)
    rank_process(process, 1).suspend()
    wait_for_step(root, newest_step(root) + 20, process)  # past the hang
    process.send_signal(signal.SIGTERM)
    stopped_code, under_torchrun = finished(process)
    stopped_at = newest_step(root)
    change_settings(root, **settings("ray"))
    process = start(root)
    wait_for_step(root, stopped_at + 10, process)
    rank_process(process, 1).kill()
    code, under_ray = finished(process)
    return Life(root, stopped_code, stopped_at, under_torchrun, code, under_ray)


def newest_step(root: Path) -> int:
    """Of the checkpoints."""
    return max(int(path.name[5:]) for path in (root / "checkpoints" / STAGE).glob("step-*"))


def test_a_rank_that_hangs_is_found_and_the_group_goes_on_from_its_last_checkpoint(life):
    assert "rank-00000 did not move" in life.under_torchrun
    assert "all_reduce" in life.under_torchrun  # where rank 0 stood: it waited for the other one
    assert "starting again from checkpoint of step" in life.under_torchrun


def test_a_group_that_is_asked_to_stop_loses_no_step(life):
    assert life.stopped_code == 128 + signal.SIGTERM, life.under_torchrun
    assert f"stopped at step {life.stopped_at}/120 on request" in life.under_torchrun
    assert life.under_torchrun.count("on request") == 1  # one process speaks for all
    assert f"resuming at step {life.stopped_at}/120" in life.under_ray


def test_ray_puts_a_killed_rank_and_its_group_back_to_the_last_checkpoint(life):
    assert life.code == 0, life.under_ray
    assert "lost (status -9); starting again from checkpoint of step" in life.under_ray


def test_hung_stopped_moved_and_killed_a_run_ends_as_the_one_that_was_left_alone(life, straight):
    for made in MADE:
        assert sha256_of(life.root / made) == sha256_of(straight / made), made


class Scripted:
    """Attempts that end as told, after leaving what a rank would leave."""

    def __init__(self, folder: Path, *ends: object) -> None:
        self.folder, self.ends, self.stopped = folder, list(ends), False

    def __call__(self, job: Job, attempt: int) -> "Scripted":
        self.end = self.ends[attempt]
        return self

    def poll(self) -> int | None:
        return self.end(self) if callable(self.end) else self.end

    def ask_to_stop(self) -> None:
        self.stopped = True

    def close(self) -> None: ...


def launch_scripted(tmp_path: Path, *ends: object) -> None:
    config = LaunchConfig(kind="torchrun", processes=2, restarts=2, stop_seconds=0.5)
    launch_stage(Job(STAGE, tmp_path, tmp_path, config), Scripted(tmp_path, *ends))


def test_restarts_are_counted_in_a_row_without_a_new_checkpoint(tmp_path):
    def progress(ranks: Scripted) -> int:
        (ranks.folder / "step-000010").mkdir()
        return 1

    launch_scripted(tmp_path, 1, 1, progress, 1, 0)
    with pytest.raises(LostRanksError, match=r"lost 3 times in a row at checkpoint of step 10 \(status 1\)"):
        launch_scripted(tmp_path, 1, 1, 1, 0)


def test_what_a_rank_refuses_is_said_once_and_not_tried_again(tmp_path, monkeypatch):
    monkeypatch.setenv("REELFORGE_ATTEMPT", "0")

    def refuse(ranks: Scripted) -> int:
        report_outcome(ranks.folder, "latents of another autoencoder", 2)
        return 1

    with pytest.raises(UserError, match="latents of another autoencoder"):
        launch_scripted(tmp_path, refuse)
    launch_scripted(tmp_path, 0)  # what was said then says nothing of the next time


def test_a_group_that_does_not_leave_in_time_is_ended_and_says_where_it_goes_on(tmp_path):
    asked = []

    def linger(ranks: Scripted) -> None:
        if not asked:
            asked.append(time.monotonic())
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interruption, match=r"checkpoint of step 0; no newer one .*stop_seconds") as caught:
        launch_scripted(tmp_path, linger)
    assert caught.value.exit_code == 143


def test_several_nodes_need_a_place_to_meet(tmp_path):
    job = Job(STAGE, tmp_path, tmp_path, LaunchConfig(kind="torchrun", nodes=2, processes=1))
    with pytest.raises(UserError, match=r"2 nodes and has no `address`.*HOST:PORT"):
        start_torchrun(job, 0)


def test_the_report_names_the_steps_of_the_whole_run(straight):
    assert read_json(straight / f"reports/{STAGE}.json")["metrics"]["steps"] == 120
