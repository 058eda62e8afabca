"""Peak memory and time of `validate` over a table of ten million clips without media.

    python benchmarks/validate_memory.py [--rows 10000000]

Five clips a source, a caption of some ten words each. The table is made in a process of its own; the memory is that
of the stage's process and all that it starts. The aim is 2 GB.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
from manifest_memory import AIM_GB, HERE, measured, run_stage

from components.artifacts import write_json
from components.data import store
from components.params import Params

CLIPS_OF_A_SOURCE = 5


def hex_strings(numbers: np.ndarray, digits: int) -> pa.Array:
    """Numbers as hexadecimal strings of `digits` (a multiple of 16), without a Python string for each."""
    words = np.repeat(numbers[:, None].astype(">u8"), digits // 16, axis=1)
    text = words.tobytes().hex().encode()
    offsets = np.arange(len(numbers) + 1, dtype=np.int64) * digits
    return pa.LargeStringArray.from_buffers(len(numbers), pa.py_buffer(offsets), pa.py_buffer(text))


def make_clips(root: Path, rows: int) -> None:
    random = np.random.default_rng(3)
    index = np.arange(rows, dtype=np.uint64)
    sources = index // CLIPS_OF_A_SOURCE
    names = hex_strings(sources, 16)
    captions = pa.array([f"a thing number {one} goes over a hill in the evening" for one in range(50_000)])
    kinds = pa.array(["train", "validation", "file", "sidecar"])
    split = pa.array((sources % 50 == 0).astype(np.int32))
    clips = {
        "clip_id": hex_strings(index * np.uint64(0x9E3779B97F4A7C15), 16).cast(pa.string()),
        "source": names.cast(pa.string()),
        "source_digest": pa.chunked_array(
            [hex_strings(part, 64).cast(pa.string()) for part in np.array_split(sources, 20)]
        ),
        "start_seconds": (index % CLIPS_OF_A_SOURCE * 8).astype(np.float64),
        "end_seconds": (index % CLIPS_OF_A_SOURCE * 8 + 8).astype(np.float64),
        "fps": random.choice([24.0, 25.0, 30.0], rows),
        "frames": np.full(rows, 200),
        "width": np.full(rows, 1280, np.int32),
        "height": np.full(rows, 720, np.int32),
        "split": kinds.take(split),
        "caption": captions.take(pa.array(index % 50_000)),
        "caption_source": kinds.take(pa.array((2 + index % 2).astype(np.int32))),
        "kept": np.ones(rows, dtype=bool),
        **{name: random.random(rows, np.float32) for name in ("motion", "text_share", "brightness")},
        "sharpness": random.random(rows, np.float32) * 100,
    }
    store.create(root, "clips", pa.table(clips), "dedup").write(root / "artifacts/clips/dedup.json")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=10_000_000)
    rows = parser.parse_args().rows
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "params.yaml").write_text((HERE / "params.yaml").read_text())
        previous = Params.load(root / "params.yaml").validation.previous
        write_json(root / previous / "summary.json", {"version": None})
        measured(make_clips, root, rows)
        found = measured(run_stage, root, "validate")
        verdict = "within" if float(str(found["gigabytes"])) <= AIM_GB else "ABOVE"
        print(
            f"validate {rows:,} rows  {found['seconds']:.0f} s  peak {found['gigabytes']:.2f} GB"
            f" ({verdict} {AIM_GB:g} GB)  {found['result']}"
        )


if __name__ == "__main__":
    main()
