"""The gate before a gang start, run as it is on a cluster: real processes that speak gloo to each other."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from components.errors import UserError
from components.preflight.check import WAYS_OUT, Check
from components.preflight.config import PreflightConfig
from components.preflight.measure import BLOCK_BYTES, _blocks, bus_bandwidth, uncorrected_errors

ROOT = Path(__file__).parents[3]
SECONDS = 120
ONE_NODE = ["--nnodes=1", "--node-rank=0", "--nproc-per-node=2", "--master-addr=127.0.0.1"]


def config(place: Path | str, **changes) -> dict:
    wanted = {
        "device": "cpu",
        "timeout_seconds": 60,
        "compute": {"size": 256, "repeats": 5, "min_tflops": 1e-6},
        "all_reduce": {"megabytes": 4, "repeats": 3, "min_gb_per_second": 1e-6},
        "storage": {"place": str(place), "megabytes": 8, "min_gb_per_second": 1e-6},
    }
    for dotted, value in changes.items():
        section, _, key = dotted.partition("__")
        if key:
            wanted[section][key] = value
        else:
            wanted[section] = value
    return wanted


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.bin").write_bytes(os.urandom(6_000_000))
    return folder


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def start(tmp_path: Path, wanted: dict, *, world: int = 2, processes: int = 2) -> list[tuple[int, str]]:
    """(Exit code, log) of each process of a gang of `world`, of which only `processes` come."""
    path = tmp_path / "preflight.yaml"
    path.write_text(yaml.safe_dump(wanted))
    gang = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        "WORLD_SIZE": str(world),
        "OMP_NUM_THREADS": "1",
    }
    started = [
        subprocess.Popen(
            [
                sys.executable,
                "-m",
                "components.preflight",
                str(path),
                "--result",
                str(tmp_path / "result.json"),
            ],
            cwd=ROOT,
            env={**os.environ, **gang, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(processes)
    ]
    logs = [process.communicate(timeout=SECONDS)[1] for process in started]
    return [(process.returncode, log) for process, log in zip(started, logs, strict=True)]


def result(tmp_path: Path) -> dict:
    return json.loads((tmp_path / "result.json").read_text())


def names_of(checks: list[dict], *, passed: bool) -> list[str]:
    return sorted(check["name"] for check in checks if check["passed"] is passed)


def test_a_sound_gang_may_start_and_every_figure_is_written(tmp_path, data):
    """As the manifest starts it: by torchrun."""
    (tmp_path / "preflight.yaml").write_text(yaml.safe_dump(config(data)))
    command = [sys.executable, "-m", "torch.distributed.run", *ONE_NODE]
    command += [
        f"--master-port={free_port()}",
        "-m",
        "components.preflight",
        str(tmp_path / "preflight.yaml"),
    ]
    done = subprocess.run(
        [*command, "--result", str(tmp_path / "result.json")],
        check=False,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert done.returncode == 0, done.stderr
    written = result(tmp_path)
    assert written["passed"]
    expected = [
        "all_reduce.bandwidth",
        "all_reduce.correct",
        "compute.speed",
        "compute.speed",
        "storage.read",
    ]
    assert names_of(written["checks"], passed=True) == expected
    by_name = {check["name"]: check for check in written["checks"]}
    assert by_name["storage.read"]["rank"] is None  # of the node, not of a process
    assert by_name["all_reduce.correct"]["measured"] == 0


REFUSALS = {
    "compute": ({"compute__min_tflops": 1e6}, ["compute.speed", "compute.speed"]),
    "the rest": (
        {"storage__min_gb_per_second": 1e6, "all_reduce__min_gb_per_second": 1e6},
        ["all_reduce.bandwidth", "storage.read"],
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_a_threshold_that_is_not_met_refuses_the_whole_gang_by_name(tmp_path, data, case):
    changes, names = REFUSALS[case]
    outcomes = start(tmp_path, config(data, **changes))
    assert [code for code, _ in outcomes] == [1, 1]
    written = result(tmp_path)
    assert not written["passed"]
    assert names_of(written["checks"], passed=False) == names
    for name in names:
        assert f"{name} on " in outcomes[0][1]
        assert WAYS_OUT[name] in outcomes[0][1]


def test_no_data_where_training_would_read_is_named(tmp_path):
    outcomes = start(tmp_path, config(tmp_path / "nothing"), world=1, processes=1)
    assert [code for code, _ in outcomes] == [1]
    assert "no file with data in" in outcomes[0][1]


def test_a_peer_that_never_comes_is_a_refusal_and_no_hang(tmp_path, data):
    outcomes = start(tmp_path, config(data, timeout_seconds=3), world=2, processes=1)
    assert [code for code, _ in outcomes] == [1]
    assert "group.complete" in outcomes[0][1]
    assert [check["name"] for check in result(tmp_path)["checks"]] == ["group.complete"]


def test_bus_bandwidth_is_that_of_nccl_tests():
    # 8 GPUs, 8 GiB in 31.0 ms: algorithm bandwidth 277 GB/s, bus bandwidth 277 x 14/8 = 485 GB/s
    assert bus_bandwidth(8 * 2**30, 0.031, 8) == pytest.approx(277.09 * 1.75, rel=1e-4)
    assert bus_bandwidth(1e9, 1.0, 2) == pytest.approx(1.0)


def test_processes_read_disjoint_blocks_that_cover_the_files():
    sizes = {"a": 3 * BLOCK_BYTES + 5, "b": BLOCK_BYTES // 2, "c": 2 * BLOCK_BYTES}
    files = {name: {"size": size} for name, size in sizes.items()}
    covered = {name: np.zeros(size, dtype=np.uint8) for name, size in sizes.items()}
    for rank in range(3):
        for name, first, last in _blocks(files, rank, 3, limit=10**12):
            covered[name][first:last] += 1
    assert all((count == 1).all() for count in covered.values())


def test_a_process_stops_reading_at_its_limit():
    blocks = _blocks({"a": {"size": 100 * BLOCK_BYTES}}, 1, 2, limit=3 * BLOCK_BYTES)
    assert sum(last - first for _, first, last in blocks) == 3 * BLOCK_BYTES


@pytest.mark.parametrize(("answer", "errors"), [("0", 0), ("17", 17), ("[N/A]", None)])
def test_ecc_errors_are_read_from_the_drivers_program(tmp_path, monkeypatch, answer, errors):
    """`nvidia-smi --query-gpu` prints a number, or [N/A] where ECC is off; a stand-in prints the same here."""
    program = tmp_path / "nvidia-smi"
    program.write_text(f'#!/bin/sh\n[ "$4" = "" ] && [ "$3" = --id=5 ] && echo "{answer}"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert uncorrected_errors(5) == errors


@pytest.mark.parametrize(
    ("sense", "needed", "measured", "passed"),
    [
        ("at least", 2, 2, True),
        ("at least", 2, 1.9, False),
        ("at most", 0, 0, True),
        ("at most", 0, 1, False),
    ],
)
def test_a_figure_is_compared_in_its_sense(sense, needed, measured, passed):
    assert Check("gpu.ecc", "node", 0, measured, sense, needed, "").passed is passed


@pytest.mark.parametrize("sense", ["at least", "at most"])
def test_what_could_not_be_measured_never_passes(sense):
    check = Check("gpu.ecc", "node-7", 3, None, sense, 0, "errors", "ECC is off")
    assert not check.passed
    assert "node-7, rank 3" in check.sentence()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"device": "cuda"}, "section gpu goes with device: cuda"),
        ({"storage__plaze": "x"}, "did you mean `place`"),
        ({"timeout_seconds": 0}, "timeout_seconds"),
    ],
)
def test_a_bad_configuration_is_a_user_error(tmp_path, change, said):
    path = tmp_path / "preflight.yaml"
    path.write_text(yaml.safe_dump(config("x", **change)))
    with pytest.raises(UserError, match=said):
        PreflightConfig.load(path)
