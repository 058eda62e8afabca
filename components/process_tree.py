"""Processes that belong together: none is left behind, whichever of them ends first."""

import ctypes
import signal
import sys

import psutil

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def leave_with_parent() -> None:
    """Have this process asked to stop when the one that started it is gone. On Linux; elsewhere nothing happens."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def end_tree(pid: int) -> None:
    """End a process and all that it has started."""
    try:
        root = psutil.Process(pid)
        tree = [*root.children(recursive=True), root]
    except psutil.NoSuchProcess:
        return
    for process in tree:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
