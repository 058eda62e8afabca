import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path

import pool_work
import psutil
import pytest
from pool_work import process_of, work

from components.data.pool import Limits, Outcome, Result, reason_counts, run_pool
from components.errors import UserError

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
LIMITS = Limits(workers=2, item_seconds=2.0)


def test_results_come_in_the_order_of_the_items():
    results = run_pool(work, ["slow", 1, 2, 3], LIMITS, title="test")
    assert [result.value for result in results] == ["slow", 2, 4, 6]
    assert {result.outcome for result in results} == {Outcome.OK}


def test_an_item_that_aborts_the_process_costs_itself_only():
    results = run_pool(work, [1, "abort", 2, "abort", 3, "exit", 4], LIMITS, title="test")
    assert [result.value for result in results] == [2, None, 4, None, 6, None, 8]
    assert results[1] == Result(Outcome.CRASHED, reason="crashed", detail="SIGABRT")
    assert results[5] == Result(Outcome.CRASHED, reason="crashed", detail="exit code 7")


def test_an_item_that_hangs_is_ended_at_the_time_limit():
    started = time.monotonic()
    results = run_pool(work, [1, "hang", 2], Limits(workers=1, item_seconds=0.5), title="test")
    assert [result.outcome for result in results] == [Outcome.OK, Outcome.TIMED_OUT, Outcome.OK]
    assert results[1].detail == "took longer than 0.5 s"
    assert time.monotonic() - started < 30


def test_bad_data_is_rejected_with_its_reason():
    results = run_pool(work, ["reject", 5], LIMITS, title="test")
    assert results[0] == Result(Outcome.REJECTED, reason="bad_item", detail="it says so itself")
    assert results[1].value == 10


def test_a_defect_stops_the_pool_and_shows_the_traceback_of_the_worker():
    with pytest.raises(RuntimeError, match="a defect of ours") as error:
        run_pool(work, [1, "defect", 2], LIMITS, title="test")
    assert "pool_work.py" in str(error.value)


def test_what_no_item_can_do_without_ends_the_run_with_one_sentence():
    with pytest.raises(UserError, match=r"^the credentials have expired$"):
        run_pool(work, [1, "refuse", 2], LIMITS, title="test")


def test_workers_are_other_processes_and_are_gone_afterwards():
    results = run_pool(process_of, range(8), LIMITS, title="test")
    processes = {result.value for result in results}
    assert os.getpid() not in processes
    assert len(processes) <= LIMITS.workers
    assert not multiprocessing.active_children()


def test_a_worker_that_hangs_ends_with_the_process_that_started_it(tmp_path):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(HERE)])}
    told = tmp_path / "pid"
    command = [sys.executable, pool_work.__file__, "slow", f"hold {told}"]
    parent = subprocess.Popen(command, cwd=ROOT, env=environment, start_new_session=True)
    try:
        deadline = time.monotonic() + 60
        while not (told.exists() and told.read_text()) and time.monotonic() < deadline:
            time.sleep(0.05)
        worker = psutil.Process(int(told.read_text()))
        time.sleep(0.1)  # it is told before it hangs
    finally:
        parent.kill()  # it alone, so that it cannot end what it started
        parent.wait()
    _, alive = psutil.wait_procs([worker], timeout=20)
    for process in alive:
        process.kill()
    assert not alive


def test_no_items_need_no_process():
    assert run_pool(work, [], LIMITS, title="test") == []


def test_reasons_are_counted_by_code():
    results = [
        Result(Outcome.OK),
        Result(Outcome.CRASHED, reason="crashed"),
        Result(Outcome.CRASHED, reason="crashed"),
    ]
    assert reason_counts(results) == {"crashed": 2}


def test_a_thousand_items_of_which_one_is_cut_off_one_aborts_and_one_hangs():
    """The promise of the pool at the size it is made: three named reasons, and 997 results."""
    items: list = list(range(1000))
    items[100], items[500], items[900] = "reject", "abort", "hang"
    heard = []
    limits = Limits(workers=2, item_seconds=1.0)
    results = run_pool(work, items, limits, title="test", finished=lambda index, _: heard.append(index))
    assert reason_counts(results) == {"bad_item": 1, "crashed": 1, "timed_out": 1}
    assert [results[index].reason for index in (100, 500, 900)] == ["bad_item", "crashed", "timed_out"]
    assert sum(result.value == 2 * index for index, result in enumerate(results)) == 997
    assert sorted(heard) == list(range(1000))
