"""Servers that need nothing of each other start side by side; one that fails takes those started with it along."""

import os
import sys
from pathlib import Path

import pytest

from components.errors import UserError
from flows.services.daemon import Daemon, ServiceFailed
from flows.services.startup import Step, bring_up, stop_all

# answers once the files that it waits for are there, and notes when it began
SERVER = """
import pathlib, sys, time
folder, name, *wanted = pathlib.Path(sys.argv[1]), *sys.argv[2:]
folder.joinpath(f"{name}.begun").write_text(repr(time.time()))
while not all(folder.joinpath(each).exists() for each in wanted):
    time.sleep(0.02)
folder.joinpath(f"{name}.answers").write_text(repr(time.time()))
time.sleep(90)
"""


def server(folder: Path, name: str, *wanted: str, code: str = SERVER) -> Daemon:
    return Daemon(
        name=name,
        command=(sys.executable, "-c", code, str(folder), name, *wanted),
        environment=dict(os.environ),
        folder=folder,
        log=folder / f"{name}.log",
        record=folder / f"{name}.json",
        healthy=(folder / f"{name}.answers").exists,
        address=name,
        stop_seconds=2.0,
    )


@pytest.fixture
def make(tmp_path):
    made = []

    def one(*arguments: str, **more: str) -> Daemon:
        made.append(server(tmp_path, *arguments, **more))
        return made[-1]

    yield one
    stop_all(made)
    assert not any(daemon.process() for daemon in made)


def moment(folder: Path, file: str) -> float:
    return float((folder / file).read_text())


def test_two_that_wait_for_each_other_come_up_and_a_third_after_what_it_needs(tmp_path, make):
    """One after the other would never end: each of the two answers only once the other has begun."""
    one, two = make("one", "two.begun"), make("two", "one.begun")
    done, said = [], []
    third = Step(make("three"), needs=("one", "two"))
    first = Step(one, then=lambda: done.append((tmp_path / "three.begun").exists()))
    bring_up([third, first, Step(two)], seconds=60, said=said.append)
    assert done == [False]
    answered = max(moment(tmp_path, "one.answers"), moment(tmp_path, "two.answers"))
    assert moment(tmp_path, "three.begun") > answered
    assert sorted(said) == ["one is up: one", "three is up: three", "two is up: two"]


def test_one_is_started_when_it_can_be_and_holds_nobody_up(tmp_path, make):
    late = Step(make("late"), ready=(tmp_path / "other.answers").exists)
    bring_up([late, Step(make("other"))], seconds=60, said=lambda line: None)
    assert moment(tmp_path, "late.begun") > moment(tmp_path, "other.answers")


def test_what_runs_already_is_left_running(tmp_path, make):
    ran = make("one")
    said = []
    bring_up([Step(ran)], seconds=60, said=said.append)
    before = ran.process()
    broken = make("two", code="raise SystemExit('no space')")
    with pytest.raises(ServiceFailed, match="no space"):
        bring_up([Step(ran), Step(broken)], seconds=60, said=said.append)
    assert said == ["one is up: one", "one runs already: one"]
    assert ran.process() == before


def test_where_one_ends_the_others_are_stopped_at_once(tmp_path, make):
    """The slow one is not waited for, else it would be the one that is told of."""
    slow, broken = make("slow", "never"), make("broken", code="raise SystemExit('no space')")
    with pytest.raises(ServiceFailed, match=r"broken ended while it started[\s\S]*no space"):
        bring_up([Step(slow), Step(broken)], seconds=60, said=lambda line: None)
    assert slow.process() is None


def test_one_that_never_answers_is_told_with_its_log(make):
    silent = make("silent", "never")
    with pytest.raises(ServiceFailed, match="silent does not answer at silent"):
        bring_up([Step(silent)], seconds=0.5, said=lambda line: None)
    assert silent.process() is None


def test_what_cannot_be_prepared_stops_what_was_started(make):
    def refuse() -> bool:
        raise UserError("no network")

    one = make("one")
    with pytest.raises(UserError, match="no network"):
        bring_up([Step(one), Step(make("two"), ready=refuse)], seconds=60, said=lambda line: None)
    assert one.process() is None
