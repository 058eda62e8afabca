"""Work for the pool's tests; in a module of its own, so that worker processes can import it."""

import os
import time

from components.data.pool import RejectedError


def work(item):
    """Doubles numbers; a word says what goes wrong instead."""
    if item == "abort":
        os.abort()
    if item == "hang":
        time.sleep(3600)
    if item == "exit":
        os._exit(7)
    if item == "reject":
        raise RejectedError("bad_item", "it says so itself")
    if item == "defect":
        raise KeyError("a defect of ours")
    if item == "slow":
        time.sleep(0.3)
        return "slow"
    return 2 * item


def process_of(_item):
    time.sleep(0.05)
    return os.getpid()
