"""Garbage is not looked for during an import and at the end of a process, and is in between."""

import gc
import subprocess
import sys
import threading

import pytest

from components.imports import end_quickly, lasting, load

COSTLY = "KEPT = [[number] for number in range(50_000)]\n"  # so many would have it look dozens of times


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Writes a module and returns its name."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(name: str, code: str) -> str:
        (tmp_path / f"{name}.py").write_text(code)
        return name

    yield write
    for path in tmp_path.glob("*.py"):
        sys.modules.pop(path.stem, None)


@pytest.fixture
def collections():
    """One entry for each time that garbage is looked for."""
    seen = []

    def note(phase, _info):
        if phase == "start":
            seen.append(phase)

    gc.callbacks.append(note)
    yield seen
    gc.callbacks.remove(note)


def test_nothing_is_looked_for_during_an_import_and_never_in_what_it_made(module, collections):
    name = module("costly_module", COSTLY)
    before = gc.get_freeze_count()
    collections.clear()
    made = load(name)
    assert collections == []
    assert gc.get_freeze_count() - before >= len(made.KEPT)
    assert gc.isenabled()


def test_a_plain_import_of_the_same_would_have(module, collections):
    name = module("costly_plainly", COSTLY)
    collections.clear()
    __import__(name)
    assert collections


def test_a_second_load_leaves_the_collector_alone(module):
    name = module("costly_once", COSTLY)
    first = load(name)
    before = gc.get_freeze_count()
    assert load(name) is first
    assert gc.get_freeze_count() == before


def test_a_block_that_imports_nothing_has_nothing_passed_over(module):
    before = gc.get_freeze_count()
    with lasting:
        assert not gc.isenabled()
    assert gc.isenabled()
    assert gc.get_freeze_count() == before
    name = module("imported_in_a_block", COSTLY)
    with lasting:
        __import__(name)
    assert gc.get_freeze_count() - before >= len(sys.modules[name].KEPT)


def test_an_import_that_fails_leaves_the_collector_on(module):
    with pytest.raises(ZeroDivisionError):
        load(module("broken_module", "1 / 0\n"))
    assert gc.isenabled()


def test_a_collector_that_is_off_stays_off(module):
    gc.disable()
    try:
        load(module("inner_module", COSTLY))
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_the_collector_stays_off_until_the_last_of_several_threads_has_imported(module, tmp_path):
    """The first one waits in its import until the second one is through with its own."""
    slow = module("slow_module", "import threading\nBEGUN, GO_ON = threading.Event(), threading.Event()\n")
    first = load(slow)
    waits = module("waiting_module", f"import {slow}\n{slow}.BEGUN.set()\nassert {slow}.GO_ON.wait(60)\n")
    thread = threading.Thread(target=load, args=(waits,))
    thread.start()
    assert first.BEGUN.wait(60)
    load(module("second_module", COSTLY))
    assert not gc.isenabled()
    first.GO_ON.set()
    thread.join(60)
    assert gc.isenabled()


ENDING = f"""
import gc, os, sys
from {load.__module__} import {end_quickly.__name__}
if sys.argv[1] == "quickly":
    {end_quickly.__name__}()
class Garbage:
    def __del__(self, write=os.write):
        write(1, b"found")
lost = Garbage()
lost.itself = lost
gc.disable()
del lost
"""


@pytest.mark.parametrize(("how", "found"), [("quickly", ""), ("as ever", "found")])
def test_a_process_that_ends_looks_for_no_garbage(how, found):
    done = subprocess.run(
        [sys.executable, "-c", ENDING, how], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == found
