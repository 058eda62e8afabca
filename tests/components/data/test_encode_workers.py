"""Any number of processes makes the same shards, and what was made before a kill is not made again."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from encode_workspace import FEW, OUTPUTS, TWO_CLIPS, config, make_workspace, paths_of, set_runtime

from components.data import encode, encode_plan
from tests.tiny_clips import SCENES

ROOT = Path(__file__).parents[3]
pytestmark = pytest.mark.slow  # each process loads torch and starts the processes that decode


@pytest.fixture(scope="module")
def pristine(tmp_path_factory):
    return make_workspace(tmp_path_factory.mktemp("workers"))


@pytest.fixture(autouse=True)
def two_clips_per_shard(monkeypatch):
    monkeypatch.setattr(encode_plan, "MEGABYTE", TWO_CLIPS)


@pytest.fixture
def root(pristine, tmp_path):
    return Path(shutil.copytree(pristine, tmp_path / "root"))


@pytest.fixture(scope="module")
def whole(pristine, tmp_path_factory):
    """What one process makes without interruption."""
    root = Path(shutil.copytree(pristine, tmp_path_factory.mktemp("whole") / "root"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encode_plan, "MEGABYTE", TWO_CLIPS)
        report = encode.run(config(**FEW), paths_of(root))
    return report, made(root)


def made(root):
    """All files that an encode leaves but the table, whose files have random names: its digest is in the manifest."""
    files = [
        root / OUTPUTS["latents"],
        *(root / OUTPUTS["pictures"]).iterdir(),
        *(root / "store/latents").rglob("*.safetensors"),
        *(root / "store/latents").glob("*/*.json"),
    ]
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}


def test_two_processes_make_the_bytes_of_one(root, whole):
    set_runtime(root, encode_workers=2)
    report, expected = whole
    assert encode.run(config(**FEW), paths_of(root)) == report
    assert made(root) == expected
    assert sum(name.endswith(".safetensors") for name in expected) == len(SCENES) // 2 + 1


@pytest.mark.parametrize("workers", [1, 2])
def test_a_killed_encode_goes_on_shard_by_shard_and_ends_in_the_same_bytes(root, whole, workers):
    set_runtime(root, encode_workers=workers)
    process = start(root)
    helpers = set()
    try:
        wait_for(lambda: helpers.update(children(process.pid)) or finished(root), process)
    finally:
        process.kill()
        process.wait()
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in helpers), None)  # they follow it
    assert len(helpers) == (workers if workers > 1 else 0)
    before = {p: p.stat().st_mtime_ns for p in finished(root)}
    assert before
    set_runtime(root, encode_workers=1)  # any number goes on
    report, expected = whole
    assert encode.run(config(**FEW), paths_of(root)) == report
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert made(root) == expected


def test_a_process_that_dies_ends_the_stage_with_the_name_of_its_shard(root):
    set_runtime(root, encode_workers=2)
    process = start(root, stderr=subprocess.PIPE)
    wait_for(lambda: children(process.pid), process)
    os.kill(children(process.pid)[0], signal.SIGKILL)
    _, error = process.communicate(timeout=300)
    assert process.returncode != 0
    assert "safetensors ended with SIGKILL" in error.decode()
    assert "finished shards are kept" in error.decode()


def start(root, **more):
    command = [sys.executable, str(Path(__file__).with_name("encode_workspace.py")), str(root)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, cwd=ROOT, env=environment, **more)


def wait_for(condition, process, seconds=600):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        assert process is None or process.poll() is None
        time.sleep(0.1)


def finished(root):
    """Shards with a record."""
    return [path.with_suffix(".safetensors") for path in (root / "store/latents").rglob("*.json")]


def children(pid):
    """Processes that encode, which a process has started."""
    found = []
    for child in psutil.Process(pid).children():
        with contextlib.suppress(psutil.NoSuchProcess):
            if any("spawn_main" in word for word in child.cmdline()):
                found.append(child.pid)
    return found
