"""The measurements: what a GPU says of itself, arithmetic, the sum over all processes, and reading."""

import os
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from components.preflight.config import AllReduceConfig, ComputeConfig, StorageConfig

MEGABYTE = 10**6
GIGABYTE = 1e9
WARM_UP = 3
BLOCK_BYTES = 16 * MEGABYTE
READERS = 8  # requests in flight, so that an object store is not measured by its latency
SMI_SECONDS = 30.0


def uncorrected_errors(index: int) -> int | None:
    """Double-bit ECC errors of a GPU since its driver was loaded; None where ECC is off.

    Raises `OSError` or `subprocess.SubprocessError` where `nvidia-smi` is absent or fails.
    """
    query = "--query-gpu=ecc.errors.uncorrected.volatile.total"
    answer = subprocess.run(
        ["nvidia-smi", query, "--format=csv,noheader,nounits", f"--id={index}"],
        check=True,
        capture_output=True,
        text=True,
        timeout=SMI_SECONDS,
    ).stdout.strip()
    return int(answer) if answer.isdigit() else None


def wait_for(device: torch.device) -> None:
    """Until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def compute_tflops(config: ComputeConfig, device: torch.device) -> float:
    """Rate of a square matrix product, in 1e12 operations a second; a product is 2 size^3 of them."""
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    left = torch.ones(config.size, config.size, dtype=dtype, device=device)
    for _ in range(WARM_UP):
        left @ left
    wait_for(device)
    start = time.perf_counter()
    for _ in range(config.repeats):
        left @ left
    wait_for(device)
    return 2 * config.size**3 * config.repeats / (time.perf_counter() - start) / 1e12


def bus_bandwidth(num_bytes: float, seconds: float, world_size: int) -> float:
    """What each process's link carried, in GB/s: bytes / seconds x 2 (n - 1) / n.

    The definition of `busbw` in NVIDIA's nccl-tests (doc/PERFORMANCE.md), so figures compare with published ones.
    """
    return num_bytes / seconds * 2 * (world_size - 1) / world_size / GIGABYTE


def all_reduce(config: AllReduceConfig, device: torch.device) -> tuple[float, int]:
    """(Seconds of one sum on the slowest process, elements that came out wrong on any process).

    Rank r contributes r + 1, so that the sum n (n + 1) / 2 is exact in fp32.
    """
    rank, world = dist.get_rank(), dist.get_world_size()
    values = torch.empty(config.megabytes * MEGABYTE // 4, device=device)
    expected = world * (world + 1) / 2
    wrong, seconds = 0, 0.0
    for repeat in range(WARM_UP + config.repeats):
        values.fill_(rank + 1)
        wait_for(device)
        dist.barrier()
        start = time.perf_counter()
        dist.all_reduce(values)
        wait_for(device)
        if repeat >= WARM_UP:
            seconds += time.perf_counter() - start
        wrong = max(wrong, int((values != expected).sum()))
    worst = torch.tensor([seconds / config.repeats, float(wrong)], dtype=torch.float64, device=device)
    dist.all_reduce(worst, dist.ReduceOp.MAX)
    return float(worst[0]), int(worst[1])


def _forget(path: str) -> None:
    """Ask the kernel to drop its copy of a file, so that the storage is read and not the memory."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(handle)


def _blocks(files: dict[str, Any], rank: int, world: int, limit: int) -> list[tuple[str, int, int]]:
    """(file, start, end) of what one process reads: every `world`-th block, the largest files first."""
    largest = sorted(files, key=lambda name: (-files[name]["size"], name))
    blocks = (
        (name, start, min(start + BLOCK_BYTES, files[name]["size"]))
        for name in largest
        for start in range(0, files[name]["size"], BLOCK_BYTES)
    )
    mine, held = [], 0
    for number, block in enumerate(blocks):
        if held >= limit:
            break
        if number % world == rank:
            mine.append(block)
            held += block[2] - block[1]
    return mine


def read_rate(config: StorageConfig) -> tuple[float, int]:
    """(GB/s that this process read while all others read too, bytes it read). Raises `OSError`."""
    import fsspec

    system, root = fsspec.core.url_to_fs(config.place)
    files = system.find(root, detail=True)
    blocks = _blocks(files, dist.get_rank(), dist.get_world_size(), config.megabytes * MEGABYTE)
    if "file" in system.protocol:
        for name in {name for name, _, _ in blocks}:
            if Path(name).is_file():
                _forget(name)
    start = time.perf_counter()
    with ThreadPoolExecutor(READERS) as readers:
        read = sum(len(part) for part in readers.map(lambda block: system.cat_file(*block), blocks))
    return read / (time.perf_counter() - start) / GIGABYTE, read
