"""Work for the tests of kept items: each item that is worked on leaves a line in a file, so that it can be counted."""

import sys
import time
from pathlib import Path

from components.data.items import Work, run_items
from components.data.pool import Limits, RejectedError

LIMITS = Limits(workers=2, item_seconds=20.0)


def count(item):
    """Doubles a number, after a little while; takes (folder, number)."""
    folder, number = item
    time.sleep(0.02)
    with (folder / "done.txt").open("a") as stream:
        stream.write(f"{number}\n")
    if number % 10 == 7:
        raise RejectedError("sevens", f"{number} ends with 7")
    return 2 * number


def work(version=1):
    return Work("counted", count, {"version": version})


def run(root: Path, numbers, version=1):
    keys = [(f"key {number}", "stamp") for number in numbers]
    return run_items(root, work(version), [(root, number) for number in numbers], keys, LIMITS)


def done(root: Path) -> list[int]:
    path = root / "done.txt"
    return [int(line) for line in path.read_text().split()] if path.exists() else []


if __name__ == "__main__":
    run(Path(sys.argv[1]), range(int(sys.argv[2])))
