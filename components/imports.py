"""Imports that do not stop to look for garbage: what a module makes stays until the process ends."""

import gc
import sys
from importlib import import_module
from types import ModuleType


def load(name: str) -> ModuleType:
    """The module of that name. Python's collector is off while it is imported, and passes over what is there by then.

    Libraries such as torch make a million objects at their import. The collector would walk over all of them time and
    again, during the import and ever after, and find nothing: a fifth of what a training process takes to start.
    """
    if name in sys.modules or not gc.isenabled():
        return import_module(name)
    gc.disable()
    try:
        return import_module(name)
    finally:
        gc.freeze()
        gc.enable()
