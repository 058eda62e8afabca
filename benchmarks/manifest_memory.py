"""Peak memory and time of a manifest of a million rows: ingest from the manifest, then the filter over its clips.

    python benchmarks/manifest_memory.py [--rows 1000000] [--present 200]

The rows name files that are not there, but for a few (pictures, so that they are quick to make): ingest has to list,
look for and account for all of them. The filter then judges a clip table of as many rows with scores. Each stage runs
in a process of its own; the aim is 2 GB at a million rows.
"""

import argparse
import json
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import yaml

from components.data import store
from components.params import Params
from components.stages import STAGES

AIM_GB = 2.0
HERE = Path(__file__).parents[1]


def make_workspace(root: Path, rows: int, present: int) -> None:
    """Parameters, a manifest of `rows` rows, and `present` pictures that it names."""
    raw = yaml.safe_load((HERE / "params.yaml").read_text())
    raw["ingest"] |= {"manifest": "list.csv", "max_unreadable_share": 1.0}
    (root / "params.yaml").write_text(yaml.safe_dump(raw))
    videos = root / raw["ingest"]["videos"]
    videos.mkdir(parents=True)
    random = np.random.default_rng(1)
    for index in range(present):
        cv2.imwrite(str(videos / f"{index:09d}.png"), random.integers(0, 255, (32, 32, 3), np.uint8))
    with (videos / "list.csv").open("w") as stream:
        stream.write("path,start,end,licence,text\n")
        for index in range(rows):
            there = index < present
            name = f"{index:09d}.png" if there else f"part_{index % 997:04d}/{index:09d}.mp4"
            span = "1.0,9.5" if index % 2 and not there else ","
            stream.write(f"{name},{span},CC-BY-4.0,a thing\n")


def make_clips(root: Path, rows: int) -> None:
    """A clip table after `score`, as many rows, with scores around the thresholds."""
    random = np.random.default_rng(2)
    digests = pa.array([f"{index:064x}" for index in range(rows)])
    clips = pa.table(
        {
            "clip_id": pa.array([f"{index:016x}" for index in range(rows)]),
            "source": pa.array([f"part_{index % 997:04d}/{index:09d}.mp4" for index in range(rows)]),
            "source_digest": digests,
            "start_seconds": np.zeros(rows),
            "end_seconds": np.full(rows, 8.0),
            "fps": np.full(rows, 25.0),
            "frames": np.full(rows, 200),
            "licence": pa.array(["CC-BY-4.0"] * rows),
        }
    )
    split, score = (root / "artifacts/clips" / f"{name}.json" for name in ("split", "score"))
    store.create(root, "clips", clips, "split").write(split)
    bounds = {"motion": 0.05, "sharpness": 5.0, "text_share": 0.03, "brightness": 1.0}
    columns = {name: (random.random(rows) * bound).astype(np.float32) for name, bound in bounds.items()}
    scores = pa.table({"clip_id": clips["clip_id"], **columns})
    store.add_columns(root, split, scores, "score").write(score)


def run_stage(root: Path, name: str) -> dict[str, int]:
    params = Params.load(root / "params.yaml")
    stage = STAGES[name]
    return stage.load()(params.section(stage.section), stage.paths(root, params)).counts


def _measure(
    work: Callable[..., object], arguments: tuple[object, ...], answer: "multiprocessing.Queue[str]"
) -> None:
    started = time.monotonic()
    result = work(*arguments)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    answer.put(json.dumps({"seconds": time.monotonic() - started, "gigabytes": peak, "result": result}))


def measured(work: Callable[..., object], *arguments: object) -> dict[str, object]:
    """Seconds and peak memory of a function in a new process."""
    context = multiprocessing.get_context("spawn")
    answer = context.Queue()
    process = context.Process(target=_measure, args=(work, arguments, answer))
    process.start()
    found: dict[str, object] = json.loads(answer.get())
    process.join()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--present", type=int, default=200)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        make_workspace(root, arguments.rows, arguments.present)
        measured(make_clips, root, arguments.rows)
        for name in ("ingest", "filter"):
            found = measured(run_stage, root, name)
            verdict = "within" if float(str(found["gigabytes"])) <= AIM_GB else "ABOVE"
            print(
                f"{name:<8} {arguments.rows:,} rows  {found['seconds']:.1f} s  peak {found['gigabytes']:.2f} GB"
                f" ({verdict} {AIM_GB:g} GB)  {found['result']}"
            )


if __name__ == "__main__":
    main()
