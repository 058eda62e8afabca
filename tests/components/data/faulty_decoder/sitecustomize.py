"""A decoder with the faults that real ones have, for processes that find this folder first in PYTHONPATH.

A file named `aborts` ends the process as a failed assertion of a native library does, one named `hangs` blocks in
native code and keeps the interpreter's lock. REELFORGE_TEST_OPEN_SECONDS is the time that every file takes to open.
"""

import ctypes
import importlib.util
import os
import sys
import time
from importlib.abc import MetaPathFinder
from pathlib import Path


class Faulty(MetaPathFinder):
    """Changes PyAV when it is imported; importing it here would slow down every process."""

    def find_spec(self, name, path=None, target=None):
        if name != "av":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        load = spec.loader.exec_module

        def load_and_break(module):
            load(module)
            module.open = faulty(module.open)

        spec.loader.exec_module = load_and_break
        return spec


def faulty(opened):
    def open_file(file, *arguments, **options):
        stem = Path(str(getattr(file, "name", file))).stem
        if stem == "aborts":
            os.abort()
        if stem == "hangs":
            ctypes.PyDLL(None).pause()
        time.sleep(float(os.environ.get("REELFORGE_TEST_OPEN_SECONDS", "0")))
        return opened(file, *arguments, **options)

    return open_file


sys.meta_path.insert(0, Faulty())
