"""Garbage is not looked for during an import, and is after it."""

import gc
import sys

import pytest

from components.imports import load

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
    made = load(name)
    assert collections == []
    assert gc.get_freeze_count() - before >= len(made.KEPT)
    assert gc.isenabled()


def test_a_plain_import_of_the_same_would_have(module, collections):
    __import__(module("costly_plainly", COSTLY))
    assert collections


def test_a_second_load_leaves_the_collector_alone(module):
    name = module("costly_once", COSTLY)
    first = load(name)
    before = gc.get_freeze_count()
    assert load(name) is first
    assert gc.get_freeze_count() == before


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
