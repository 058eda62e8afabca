"""Kept results: an item is worked on once, whatever happens to the run, and again when what decides it changes."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import item_work
from item_work import LIMITS, done, run

from components.data.code_version import code_version
from components.data.items import Items
from components.data.pool import Limits, Outcome, Result

HERE = Path(__file__).parent
ROOT = HERE.parents[2]


def outcomes(results):
    return [(result.outcome, result.value, result.reason, result.detail) for result in results]


def test_a_second_run_works_on_nothing_and_says_the_same(tmp_path):
    first = run(tmp_path, range(20))
    assert sorted(done(tmp_path)) == list(range(20))
    assert first[6].value == 12
    assert (first[7].outcome, first[7].reason) == (Outcome.REJECTED, "sevens")
    assert outcomes(run(tmp_path, range(20))) == outcomes(first)
    assert len(done(tmp_path)) == 20


def test_only_new_items_are_worked_on_and_results_are_in_the_order_of_the_items(tmp_path):
    run(tmp_path, range(5))
    results = run(tmp_path, [9, 3, 8, 0])
    assert [result.value for result in results] == [18, 6, 16, 0]
    assert Counter(done(tmp_path)) == Counter([*range(5), 8, 9])


def test_items_of_one_key_are_worked_on_once(tmp_path):
    assert [result.value for result in run(tmp_path, [4, 4, 4])] == [8, 8, 8]
    assert done(tmp_path) == [4]


def test_another_version_of_the_work_asks_again(tmp_path):
    run(tmp_path, [1], version=1)
    run(tmp_path, [1], version=2)
    run(tmp_path, [1], version=1)
    assert done(tmp_path) == [1, 1]


def test_killed_in_the_middle_nothing_that_was_finished_is_done_again(tmp_path):
    command = [sys.executable, item_work.__file__, str(tmp_path), "120"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(HERE)])}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, start_new_session=True)
    try:
        deadline = time.monotonic() + 300  # workers start slowly on a machine that is busy
        while len(done(tmp_path)) < 30 and time.monotonic() < deadline:
            time.sleep(0.02)
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # with its workers, as a node that goes down
        process.wait()
    time.sleep(0.1)
    before = len(done(tmp_path))
    assert 30 <= before < 120
    results = run(tmp_path, range(120))
    times = Counter(done(tmp_path))
    assert set(times) == set(range(120))
    # what a worker had just finished and nobody had heard of yet is done twice: no more than one item each
    assert sum(times.values()) - 120 <= LIMITS.workers
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    assert outcomes(run(fresh, range(120))) == outcomes(results)


def test_half_a_line_is_passed_over(tmp_path):
    run(tmp_path, range(6))
    (segment,) = (tmp_path / "store/items/counted").rglob("*.jsonl")
    whole = segment.read_bytes()
    last = whole.rstrip(b"\n").rfind(b"\n") + 1
    for length in (last + 5, len(whole) - 1):
        segment.write_bytes(whole[:length])
        with Items[int](tmp_path, "counted", {"version": 1}) as kept:
            assert len(kept) == 5
    segment.write_bytes(whole.replace(b'"value":4', b'"value":5'))  # a disk that lies
    with Items[int](tmp_path, "counted", {"version": 1}) as kept:
        assert "key 2" not in kept
        assert len(kept) == 5


def test_a_failure_holds_for_the_file_it_was_met_in(tmp_path):
    bad = Result[int](Outcome.CRASHED, reason="crashed", detail="SIGSEGV")
    with Items[int](tmp_path, "some", {}) as kept:
        kept.add("a", bad, LIMITS, stamp="10:1")
        kept.add("b", Result(Outcome.OK, 1), LIMITS, stamp="10:1")
    with Items[int](tmp_path, "some", {}) as kept:
        assert kept.get("a", LIMITS, stamp="10:1") == bad
        assert kept.get("a", LIMITS, stamp="10:2") is None
        assert kept.get("b", LIMITS, stamp="10:2") == Result(Outcome.OK, 1)


def test_an_item_that_took_too_long_is_tried_again_with_more_time(tmp_path):
    late = Result[int](Outcome.TIMED_OUT, reason="timed_out", detail="took longer than 20 s")
    with Items[int](tmp_path, "some", {}) as kept:
        kept.add("a", late, LIMITS)
        assert kept.get("a", LIMITS) == late
        assert kept.get("a", Limits(2, 10.0)) == late
        assert kept.get("a", Limits(2, 60.0)) is None


def test_two_runs_at_once_write_files_of_their_own(tmp_path):
    with Items[int](tmp_path, "some", {}) as one, Items[int](tmp_path, "some", {}) as other:
        one.add("a", Result(Outcome.OK, 1), LIMITS)
        other.add("b", Result(Outcome.OK, 2), LIMITS)
    with Items[int](tmp_path, "some", {}) as kept:
        assert len(kept) == 2
        assert "a" in kept
        assert "b" in kept


def test_a_code_version_follows_the_imports_and_nothing_else():
    assert code_version("components.data.probe") == code_version("components.data.probe")
    assert code_version("components.data.probe") != code_version("components.data.video")
    assert code_version("components.data.pool") == code_version("components.data.items")  # they carry results
