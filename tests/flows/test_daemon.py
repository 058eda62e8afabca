"""A server that outlives its starter is found again, ended with all its children, and never mistaken for another."""

import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from components.errors import UserError
from flows.services import state
from flows.services.daemon import Daemon, ServiceFailed

# a server that makes a child, says both ids, and takes no notice of TERM if it is told so
SERVER = """
import os, pathlib, signal, subprocess, sys, time
folder, stubborn = pathlib.Path(sys.argv[1]), sys.argv[2] == "stubborn"
if stubborn:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(90)"
child = subprocess.Popen([sys.executable, "-c", deaf])
folder.joinpath("child").write_text(str(child.pid))
folder.joinpath("ready").touch()
time.sleep(90)
"""


@pytest.fixture
def daemon(tmp_path) -> Iterator[Daemon]:
    made = make(tmp_path, "gentle")
    yield made
    made.stop()


def make(folder: Path, manner: str, code: str = SERVER) -> Daemon:
    return Daemon(
        name="server",
        command=(sys.executable, "-c", code, str(folder), manner),
        environment=dict(os.environ),
        folder=folder,
        log=folder / "logs" / "server.log",
        record=folder / "server.json",
        healthy=(folder / "ready").exists,
        address="nowhere",
        stop_seconds=1.0,
        group_seconds=0.5,
    )


def wait_until_it_answers(daemon: Daemon) -> None:
    deadline = time.monotonic() + 60
    while not daemon.answers(deadline):
        time.sleep(0.02)


def up(daemon: Daemon) -> tuple[int, int]:
    """Ids of the server and of its child."""
    assert daemon.start()
    wait_until_it_answers(daemon)
    return json.loads(daemon.record.read_text())["pid"], int((daemon.folder / "child").read_text())


def lives(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


@pytest.mark.parametrize("manner", ["gentle", "stubborn"])
def test_stopping_ends_the_server_and_its_children(tmp_path, manner):
    daemon = make(tmp_path, manner)
    pids = up(daemon)
    assert all(lives(pid) for pid in pids)
    assert daemon.stop()
    assert not any(lives(pid) for pid in pids)
    assert daemon.process() is None
    assert not daemon.stop()  # nothing is left to stop


def test_starting_twice_starts_once(daemon):
    pid, _ = up(daemon)
    again = make(daemon.folder, "gentle")  # another command of the same workspace
    assert not again.start()
    assert again.process() is not None
    assert again.process().pid == pid


def test_children_of_a_killed_server_are_ended_before_the_next_start(daemon):
    pid, child = up(daemon)
    os.kill(pid, signal.SIGKILL)
    (daemon.folder / "ready").unlink()
    while daemon.process() is not None:
        time.sleep(0.05)
    assert lives(child)
    assert daemon.start()
    assert not lives(child)


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_stranger_with_the_recorded_id_is_left_alone(daemon, hours):
    stranger = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
    try:
        daemon.record.write_text(json.dumps({"pid": stranger.pid, "started": time.time() + 3_600 * hours}))
        assert daemon.process() is None
        assert not daemon.stop()
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_a_server_that_ends_says_why(tmp_path):
    daemon = make(tmp_path, "gentle", code="raise SystemExit('the disk is full')")
    daemon.start()
    with pytest.raises(ServiceFailed, match="the disk is full"):
        wait_until_it_answers(daemon)


def test_ports_and_passwords_are_drawn_once_and_kept(tmp_path):
    first = state.load_or_make(tmp_path, free_ports=True)
    assert state.load_or_make(tmp_path) == first == state.load(tmp_path)
    words = set(vars(first.passwords).values())
    assert len(words) == 5 and min(map(len, words)) >= 20
    assert stat.S_IMODE(first.passwords_file.stat().st_mode) == 0o600
    assert stat.S_IMODE(first.secret_folder.stat().st_mode) == 0o700
    ports = list(vars(first.ports).values())
    assert len(set(ports)) == len(ports)


def test_a_folder_without_services_says_how_to_start_them(tmp_path):
    with pytest.raises(UserError, match="reelforge services up"):
        state.load(tmp_path)
