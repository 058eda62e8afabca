"""Work for the pool's tests; in a module of its own, so that worker processes can import it."""

import ctypes
import os
import sys
import time
from pathlib import Path

from components.data.pool import Limits, RejectedError, run_pool
from components.errors import UserError


def work(item):
    """Doubles numbers; a word says what goes wrong instead."""
    if item == "abort":
        os.abort()
    if item == "hang":
        time.sleep(3600)
    if isinstance(item, str) and item.startswith("hold "):  # in native code, with the interpreter's lock
        Path(item.removeprefix("hold ")).write_text(str(os.getpid()))
        ctypes.PyDLL(None).pause()
    if item == "exit":
        os._exit(7)
    if item == "reject":
        raise RejectedError("bad_item", "it says so itself")
    if item == "defect":
        raise KeyError("a defect of ours")
    if item == "refuse":
        raise UserError("the credentials have expired")
    if item == "slow":
        time.sleep(0.3)
        return "slow"
    return 2 * item


def process_of(_item):
    time.sleep(0.05)
    return os.getpid()


if __name__ == "__main__":
    run_pool(work, sys.argv[1:], Limits(workers=1, item_seconds=600), title="test")
