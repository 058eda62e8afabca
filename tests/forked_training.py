"""Training in real processes that are killed in earnest, many times a minute; see `START`.

This process imports everything once and forks; a job is a run by one or two processes (gloo), with SIGKILL for all of
them after so many batches, or in the middle of writing a checkpoint. What each process saw is left in its folder.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from components.data.schedule import Schedule, Stream
from components.imports import end_quickly, load
from components.training import processes
from components.training.program import StepResult
from tests.tiny_training import Regression, loop_config, loop_paths, run_tiny

ROOT = Path(__file__).parents[1]
SECONDS = 60.0  # a job may take
START = f"from components.imports import load; load({__name__!r}).main()"


@dataclass(frozen=True)
class Job:
    """One start of a run. `config` are changes of `loop_config`."""

    root: str
    processes: int = 1
    config: dict[str, Any] = field(default_factory=dict)
    kill_after: int | None = None  # batches of rank 0
    kill_in_writing: bool = False
    width: int = 16  # of the network


class Recorded(Regression):
    """Learns on samples in the order of training data, and writes down which at each position, and the loss."""

    def __init__(self, record: Path, width: int) -> None:
        super().__init__()
        torch.manual_seed(7)
        self.module = nn.Sequential(nn.Linear(6, width), nn.GELU(), nn.Linear(width, 3))
        self.record = record
        streams = [
            Stream(name, tuple(f"{name}{index}" for index in range(count)), count, 4)
            for name, count in (("wide", 37), ("tall", 22))
        ]
        self.streams = streams
        self.schedule = Schedule(streams, seed=5, small_bucket="repeat")

    def step(self, module: nn.Module, position: int, generator: torch.Generator) -> StepResult:
        index, taken = self.schedule.at(position)
        ids = [self.streams[index].samples[sample] for sample in taken]
        result = super().step(module, position, generator)
        loss = result.loss * (1 + 0.1 * index)
        line = {"position": position, "ids": ids, "loss": loss.item()}
        with self.record.open("a") as stream:
            stream.write(json.dumps(line) + "\n")
        return StepResult(loss, result.metrics, ids, epoch=self.schedule.epoch_of(position))


def start(root: Path, jobs: Sequence[Job]) -> list[int]:
    """Run jobs one after the other in forks of a process of its own; exit codes of their rank 0."""
    plan = root / "jobs.json"
    plan.write_text(json.dumps([asdict(job) for job in jobs]))
    command = [sys.executable, "-c", START, str(plan)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "REELFORGE_TRACKING": "off"}
    limit = 60 + SECONDS * len(jobs)
    result = subprocess.run(
        command, cwd=ROOT, env=environment, check=False, capture_output=True, text=True, timeout=limit
    )
    assert result.returncode == 0, result.stderr[-4000:]
    codes: list[int] = json.loads(result.stdout.splitlines()[-1])
    assert all(code in (0, -signal.SIGKILL) for code in codes), result.stderr[-4000:]
    return codes


def records(root: Path) -> list[dict[str, Any]]:
    """What all processes wrote down, in the order of each."""
    return [json.loads(line) for path in sorted(root.glob("rank-*.jsonl")) for line in whole_lines(path)]


def weights(root: Path) -> dict[str, Any]:
    """Weights and further averages that a run ended with."""
    found: dict[str, Any] = torch.load(root / "weights.pt")
    return found


def ids_by_position(root: Path) -> dict[int, list[str]]:
    """Position -> sample ids; every time a position was trained on, they were the same."""
    found: dict[int, list[str]] = {}
    for record in records(root):
        assert found.setdefault(record["position"], record["ids"]) == record["ids"]
    return found


def losses_by_step(root: Path, step_batches: int) -> list[float]:
    """Mean loss over the batches of each step."""
    losses = {record["position"]: record["loss"] for record in records(root)}
    steps = len(losses) // step_batches
    return [
        sum(losses[step * step_batches + batch] for batch in range(step_batches)) / step_batches
        for step in range(steps)
    ]


def whole_lines(path: Path) -> list[str]:
    """Lines that a kill has not cut."""
    return [line for line in path.read_text().splitlines(keepends=True) if line.endswith("}\n")]


def do(job: Job) -> int:
    """Fork the processes of a job and end them as it says."""
    root = Path(job.root)
    root.mkdir(parents=True, exist_ok=True)
    before = _count(root)
    port = str(_free_port())
    children = [_fork(job, rank, port) for rank in range(job.processes)]
    deadline = time.monotonic() + SECONDS
    codes: dict[int, int] = {}
    while len(codes) < len(children):
        for child in children:
            if child not in codes and (found := os.waitpid(child, os.WNOHANG))[0]:
                codes[child] = os.waitstatus_to_exitcode(found[1])
        late = time.monotonic() > deadline
        if late or _time_to_kill(job, _count(root) - before):
            for child in set(children) - codes.keys():
                os.kill(child, signal.SIGKILL)
        if late:
            sys.stderr.write(f"{job} took more than {SECONDS} s\n")
            return 1
        time.sleep(0.002)
    return next((code for code in codes.values() if code), 0)


def _time_to_kill(job: Job, seen: int) -> bool:
    if job.kill_in_writing:
        pattern = ".step-*.partial/rank-*.safetensors"
        files = loop_paths(Path(job.root)).checkpoints.glob(pattern)
        return any(path.stat().st_size for path in files if path.exists())
    return job.kill_after is not None and seen >= job.kill_after


def _count(root: Path) -> int:
    path = root / "rank-0.jsonl"
    return len(whole_lines(path)) if path.exists() else 0


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _fork(job: Job, rank: int, port: str) -> int:
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": job.processes}
        os.environ.update({name: str(value) for name, value in place.items()})
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=port, GLOO_SOCKET_IFNAME="lo")
        _train(job, rank)
        code = 0
    except BaseException:  # noqa: BLE001  # a child must never go on as its parent
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def _train(job: Job, rank: int) -> None:
    root = Path(job.root)
    torch.set_num_threads(1)
    program = Recorded(root / f"rank-{rank}.jsonl", job.width)
    config = {**job.config, "ema": tuple(job.config["ema"])} if "ema" in job.config else job.config
    result = run_tiny(root, loop_config(**config), program)
    if rank == 0:
        averages = {f"{decay:g}": dict(weights) for decay, weights in result.other_averages.items()}
        torch.save({"weights": program.module.state_dict(), "averages": averages}, root / "weights.pt")
    processes.barrier()


def main() -> None:
    """Do the jobs of the file; exit codes go to standard output."""
    end_quickly()
    load("deepspeed.runtime.zero.muon.muon_optimizer")  # seconds that ZeRO takes, before the forks
    jobs = [Job(**job) for job in json.loads(Path(sys.argv[1]).read_text())]
    sys.stdout.write(json.dumps([do(job) for job in jobs]) + "\n")
