"""Peak memory and time of a million rows: ingest from a manifest, then split, score and filter.

    python benchmarks/manifest_memory.py [--rows 1000000] [--present 200] [--stages split score filter]

The rows name files that are not there, but for a few (pictures, so that they are quick to make): ingest has to list,
look for and account for all of them. Split and score find the results of all others kept, as after a run of days that
was interrupted, and work on the pictures. Each stage runs in a process of its own; the memory is that of the process
and all its workers (their proportional share of what they share); the aim is 2 GB at a million rows.
"""

import argparse
import contextlib
import json
import multiprocessing
import tempfile
import time
import zlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil
import pyarrow as pa
import yaml

from components.artifacts import sha256_of_json, write_json
from components.data import ingest, split, store
from components.data.items import Items
from components.data.score_items import version_of
from components.data.scorers import SCORERS
from components.params import Params
from components.stages import STAGES

AIM_GB = 2.0
STAGES_MEASURED = ("ingest", "split", "score", "filter")  # each needs those between it and split
SAMPLE_SECONDS = 0.2  # between looks at the memory
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


def make_sources(root: Path, rows: int, present: int) -> None:
    """A table of usable files of one clip each, as after `ingest`, and kept results for all but the pictures."""
    params = Params.load(root / "params.yaml")
    names = [
        f"{index:09d}.png" if index < present else f"part_{index % 997:04d}/{index:09d}.mp4"
        for index in range(rows)
    ]
    known: dict[str, Any] = {"source": names, "digest": [f"{index:064x}" for index in range(rows)]}
    usual = {pa.string(): "h264", pa.bool_(): False, pa.list_(pa.string()): [], pa.float64(): 25.0}
    columns = {
        field.name: pa.array(known.get(field.name) or [usual.get(field.type, 25)] * rows, field.type)
        for field in ingest.SCHEMA
    }
    table = pa.table(columns, ingest.SCHEMA)
    manifest = store.create(root, "sources", table, "ingest", key="source")
    manifest.write(root / "artifacts/clips/ingest.json")
    work = split.work_of(params.split, root)
    cut = work.pack(split.Cut(1, (split.Piece(0.0, 8.0, 200),)))
    digests = known["digest"][present:]
    keep(root, work.name, work.version, ((sha256_of_json([one, None]), cut) for one in digests))
    keep_scores(root, params, digests)


def keep_scores(root: Path, params: Params, digests: list[str]) -> None:
    """Scores around the thresholds of the filter."""
    random = np.random.default_rng(2)
    piece = split.Piece(0.0, 8.0, 200)
    source = dict.fromkeys(split.CARRIED)
    clips = [split.clip_row({**source, "digest": one}, piece)["clip_id"] for one in digests]
    keys = [sha256_of_json([clip, 25.0]) for clip in clips]
    bounds = {"motion": 0.05, "camera_motion": 0.05, "sharpness": 5.0, "text_share": 0.03, "brightness": 1.0}
    for name in ("motion", "sharpness", "text", "brightness"):
        columns = SCORERS[name].columns
        drawn = random.random((len(keys), len(columns)))
        values = (
            {column: bounds[column] * value for column, value in zip(columns, row, strict=True)}
            for row in drawn.tolist()
        )
        version = version_of(name, params.score)
        keep(root, f"score/{name}", version, zip(keys, values, strict=True))


def keep(root: Path, name: str, version: Mapping[str, Any], results: Iterable[tuple[str, Any]]) -> None:
    """Results of a former run, written at once."""
    folder = Items[Any](root, name, version).folder
    write_json(folder / "version.json", dict(version))
    with (folder / "000000.jsonl").open("wb") as stream:
        for key, value in results:
            record = {
                "key": key,
                "outcome": "ok",
                "value": value,
                "reason": "",
                "detail": "",
                "item_seconds": 60,
            }
            text = json.dumps(record, separators=(",", ":")).encode()
            stream.write(b"%08x %s\n" % (zlib.crc32(text), text))


def run_stage(root: Path, name: str) -> dict[str, int]:
    params = Params.load(root / "params.yaml")
    stage = STAGES[name]
    return stage.load()(params.section(stage.section), stage.paths(root, params)).counts


def _measure(
    work: Callable[..., object], arguments: tuple[object, ...], answer: "multiprocessing.Queue[str]"
) -> None:
    started = time.monotonic()
    result = work(*arguments)
    answer.put(json.dumps({"seconds": time.monotonic() - started, "result": result}))


def measured(work: Callable[..., object], *arguments: object) -> dict[str, object]:
    """Seconds of a function in a new process, and the peak memory of that process and all that it starts."""
    context = multiprocessing.get_context("spawn")
    answer = context.Queue()
    process = context.Process(target=_measure, args=(work, arguments, answer))
    process.start()
    peak = 0
    while process.is_alive() and answer.empty():
        peak = max(peak, tree_bytes(process.pid or 0))
        time.sleep(SAMPLE_SECONDS)
    found: dict[str, object] = json.loads(answer.get(timeout=10))
    process.join()
    return {**found, "gigabytes": peak / 1e9}


def tree_bytes(pid: int) -> int:
    """Memory of a process and its descendants; what several of them share is counted once."""
    total = 0
    with contextlib.suppress(psutil.NoSuchProcess):
        parent = psutil.Process(pid)
        for one in (parent, *parent.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                total += one.memory_full_info().pss
    return total


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--present", type=int, default=200)
    parser.add_argument("--stages", nargs="+", choices=STAGES_MEASURED, default=STAGES_MEASURED)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        make_workspace(root, arguments.rows, arguments.present)
        for name in arguments.stages:
            if name == "split":
                measured(make_sources, root, arguments.rows, arguments.present)
            found = measured(run_stage, root, name)
            verdict = "within" if float(str(found["gigabytes"])) <= AIM_GB else "ABOVE"
            print(
                f"{name:<8} {arguments.rows:,} rows  {found['seconds']:.1f} s  peak {found['gigabytes']:.2f} GB"
                f" ({verdict} {AIM_GB:g} GB)  {found['result']}"
            )


if __name__ == "__main__":
    main()
