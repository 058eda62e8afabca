"""What the Ray engine costs: seconds for the same clips on a cluster of this machine and in the local pool.

    python benchmarks/cluster.py [--workers 2] [--clips 200] [--empty 1000] [--rounds 3] [--cluster ADDRESS]

Both score the same clips with the same number of workers, and pass on items that cost nothing. Without an address a
cluster of one node is started here, with as many cores as workers. The time that workers take to start is measured
by itself, with one item each. Rounds alternate; ratios are those of the medians.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.curation import PARAMS, make_footage
from components.data.cluster import disconnect
from components.data.looks import Job
from components.data.pool import Limits, run_pool
from components.data.scorers import score_clip
from components.runtime import quiet_ray

ITEM_SECONDS = 60.0
CLIP_SECONDS = 2.0
FILES = 1


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--clips", type=int, default=200)
    parser.add_argument("--empty", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cluster")
    arguments = parser.parse_args()
    here = Limits(arguments.workers, ITEM_SECONDS)
    there = replace(here, cluster=arguments.cluster or start(arguments.workers))
    with tempfile.TemporaryDirectory() as folder:
        make_footage(Path(folder), FILES)
        files = sorted(Path(folder).glob("*.mp4"))
        clips = [clip_of(files, index) for index in range(arguments.clips)]
        for name, work, items in (
            ("start of the workers", abs, range(arguments.workers)),
            ("clips scored", score_clip, clips),
            ("items of no work", abs, range(arguments.empty)),
        ):
            compare(name, work, items, (here, there), arguments.rounds)
    disconnect()


def start(workers: int) -> str:
    """A cluster on this machine, which ends with this process."""
    quiet_ray()
    # on the loopback interface, without a token in the home folder
    os.environ |= {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_AUTH_MODE": "disabled"}
    import ray

    ray.init(num_cpus=workers, include_dashboard=False, log_to_driver=False, object_store_memory=80 << 20)
    return "auto"


def clip_of(files: Sequence[Path], index: int) -> Job:
    first = 0.1 * (index // len(files))
    return Job(files[index % len(files)], first, first + CLIP_SECONDS, 24.0, PARAMS.score)


def compare(
    name: str, work: Callable[[Any], Any], items: Sequence[Any], limits: tuple[Limits, Limits], rounds: int
) -> None:
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for taken, one in zip(seconds, limits, strict=True):
            started = time.monotonic()
            results = run_pool(work, items, one, title=name)
            taken.append(time.monotonic() - started)
            assert not any(result.reason for result in results)
    here, there = (statistics.median(taken) for taken in seconds)
    each = 1000 * (there - here) / len(items)
    print(
        f"{name:<22} {len(items):>5}  local {here:.2f} s  Ray {there:.2f} s  ratio {there / here:.2f}"
        f"  {each:+.1f} ms per item"
    )


if __name__ == "__main__":
    main()
