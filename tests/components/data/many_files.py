"""Many small videos, three of them bad, and the stages run over them in processes of their own."""

import os
import struct
import subprocess
import sys
from collections import Counter
from pathlib import Path

from footage_workspace import make_root
from video_files import counter_frame, write_video

from components.report import Report

ROOT = Path(__file__).parents[3]
HERE = Path(__file__).parent
STAGES = ("ingest", "split", "score")
WORKS = ("ingest", "split", "score/motion", "score/sharpness", "score/text", "score/brightness")
BAD = {"truncated": "truncated", "aborts": "crashed", "hangs": "timed_out"}  # file -> its reason


def make(folder: Path, files: int, **dotted) -> Path:
    """A workspace with so many files, three of which are bad; their bytes differ, and one in ten has its own frames."""
    root = make_root(folder, split__threshold=200.0, split__gradual=False, split__min_seconds=0.5, **dotted)
    videos = root / "data" / "footage"
    videos.mkdir(parents=True)
    kinds = [
        write_video(folder / f"kind{kind}.mp4", [counter_frame(31 * kind + step) for step in range(15)])
        for kind in range(8)
    ]
    whole = [kind.read_bytes() for kind in kinds]
    for index in range(files - len(BAD)):
        (videos / f"{index:04d}.mp4").write_bytes(whole[index % 8] + _box(index))
    for number, name in enumerate(BAD):
        content = whole[number] + _box(files + number)
        (videos / f"{name}.mp4").write_bytes(content[: len(content) // 2] if name == "truncated" else content)
    return root


def _box(number: int) -> bytes:
    """A box of MP4 that players pass over."""
    return struct.pack(">I4sI", 12, b"free", number)


def start(root: Path, stage: str, *, open_seconds: float = 0.0) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "components", stage, "--root", str(root)],
        cwd=ROOT,
        env=environment(open_seconds),
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def environment(open_seconds: float = 0.0) -> dict[str, str]:
    """Of a process whose decoder is faulty."""
    return {
        **os.environ,
        "REELFORGE_TRACKING": "off",
        "REELFORGE_TEST_OPEN_SECONDS": str(open_seconds),
        "PYTHONPATH": os.pathsep.join([str(HERE / "faulty_decoder"), str(ROOT)]),
    }


def finish(process: "subprocess.Popen[str]") -> str:
    """What it said, once it is done."""
    _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    return said


def kept(root: Path, name: str) -> Counter[str]:
    """How often each item was kept by a piece of work."""
    lines = (
        line
        for path in (root / "store/items" / name).rglob("*.jsonl")
        for line in path.read_text().splitlines()
    )
    return Counter(line.partition('"key":"')[2].partition('"')[0] for line in lines)


def manifests(root: Path) -> dict[str, bytes]:
    return {stage: (root / f"artifacts/clips/{stage}.json").read_bytes() for stage in STAGES}


def report(root: Path, stage: str) -> Report:
    return Report.read(root / f"reports/{stage}.json")
