"""Imports that do not stop to look for garbage: what a module makes stays until the process ends."""

import atexit
import gc
import sys
from importlib import import_module
from threading import Lock
from types import ModuleType, TracebackType


class _Lasting:
    """Python's collector is off as long as some thread imports; it passes over what is there afterwards."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._importing = 0
        self._was_on = False
        self._modules = 0

    def __enter__(self) -> None:
        with self._lock:
            if not self._importing:
                self._was_on = gc.isenabled()
                self._modules = len(sys.modules)
                gc.disable()
            self._importing += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._importing -= 1
            if not self._importing and self._was_on:
                if len(sys.modules) > self._modules:
                    gc.freeze()
                gc.enable()


# `with lasting:` around what imports a library by itself, as a model that is loaded does
lasting = _Lasting()


def load(name: str) -> ModuleType:
    """The module of that name, imported without a look for garbage.

    Libraries such as torch make a million objects at their import. The collector would walk over all of them time and
    again, during the import and ever after, and find nothing: a third of what a small training stage takes.
    """
    if name in sys.modules:
        return import_module(name)
    with lasting:
        return import_module(name)


def end_quickly() -> None:
    """Have the end of this process not look for garbage either, which the system takes back in one piece."""
    atexit.register(gc.freeze)
