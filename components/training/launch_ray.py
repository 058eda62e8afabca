"""Ranks on a Ray cluster: one actor for each, in a placement group that is given whole or not at all.

An actor runs the rank as a process of its own, the same as torchrun's, so that nothing of Ray is in it. The workspace
must be at the same path on all nodes. Started anew from `launch`, a group that lost a rank or a node gets new places.
"""

import logging
import socket
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from components import runtime
from components.errors import UserError
from components.process_tree import end_tree
from components.training.launch import Job

PLACE_SECONDS = 600.0  # that the cluster gets to make room, with machines to start
TIDY_SECONDS = 10.0
LOST = 1  # status of a rank whose actor or node is gone


class Rank:
    """Runs in an actor: one rank."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None

    def place(self) -> tuple[str, int]:
        """(address of this node, a port that is free on it)."""
        ray = _ray()
        with socket.socket() as probe:
            probe.bind(("", 0))
            return str(ray.util.get_node_ip_address()), int(probe.getsockname()[1])

    def run(self, command: list[str], environment: dict[str, str], folder: str) -> int:
        """Run the rank to its end; its exit status."""
        own = runtime.rank_environment(0)  # GPUs are named by the node that has them
        self.process = subprocess.Popen([sys.executable, *command], env={**own, **environment}, cwd=folder)
        return self.process.wait()

    def ask_to_stop(self) -> None:
        if self.process is not None:
            with suppress(ProcessLookupError):
                self.process.terminate()

    def end(self) -> None:
        if self.process is not None and self.process.poll() is None:
            end_tree(self.process.pid)


def _ray() -> Any:
    """Ray, whose annotations leave out what it adds to classes."""
    return import_module("ray")


def start_on_ray(job: Job, attempt: int) -> "RayRanks":
    """Place and start all ranks. Raises `UserError` where the cluster has no room for them."""
    ray = _ray()
    _connect(job)
    count = _count(job)
    group = _placed(job, count)
    options: dict[str, Any] = {"max_concurrency": 4, "placement_group": group, "max_restarts": 0, **_needs()}
    actors = [
        ray.remote(Rank).options(**options, placement_group_bundle_index=index).remote()
        for index in range(count)
    ]
    places = ray.get([actor.place.remote() for actor in actors])
    actors = [actors[index] for index in sorted(range(count), key=lambda index: places[index][0])]
    address, port = ray.get(actors[0].place.remote())
    calls = []
    for rank, actor in enumerate(actors):
        told = {
            "RANK": rank,
            "LOCAL_RANK": 0,
            "WORLD_SIZE": count,
            "MASTER_ADDR": address,
            "MASTER_PORT": port,
        }
        calls.append(actor.run.remote(job.command, _told(attempt, told), str(Path.cwd())))
    return RayRanks(actors, calls, group)


def _connect(job: Job) -> None:
    """Join the cluster, or start one in this process's machine."""
    ray = _ray()
    if ray.is_initialized():
        return
    address = job.launch.address
    here: dict[str, Any] = {} if address else {"num_cpus": max(_count(job), 1), "include_dashboard": False}
    ray.init(address=address or "local", logging_level=logging.WARNING, log_to_driver=True, **here)


def _count(job: Job) -> int:
    processes = job.launch.processes or runtime.gpu_count()
    if not processes:
        raise UserError(
            "runtime.launch.processes is null, which means one for each GPU, and this machine has none; set it to the"
            " number of processes on each node"
        )
    return job.launch.nodes * processes


def _needs() -> dict[str, float]:
    """What each rank takes: a GPU where the cluster has some."""
    ray = _ray()
    return {"num_cpus": 1, "num_gpus": 1 if ray.cluster_resources().get("GPU") else 0}


def _placed(job: Job, count: int) -> Any:
    ray = _ray()
    needs = _needs()
    bundle = {"CPU": needs["num_cpus"], **({"GPU": needs["num_gpus"]} if needs["num_gpus"] else {})}
    group = ray.util.placement_group([bundle] * count, strategy="PACK")
    if not group.wait(PLACE_SECONDS):
        raise UserError(
            f"{job.stage}: the Ray cluster has no room for {count} processes with {bundle} each; it has"
            f" {ray.cluster_resources()}. Lower runtime.launch.processes or nodes, or add nodes"
        )
    return group


def _told(attempt: int, rank: dict[str, int | str]) -> dict[str, str]:
    """What a rank's environment has beyond that of its node: who it is, and this process's own settings."""
    settings = runtime.rank_environment(attempt, **rank)
    wanted = {*rank, runtime.ATTEMPT, "OMP_NUM_THREADS"}
    return {
        name: value for name, value in settings.items() if name in wanted or name.startswith(runtime.OURS)
    }


@dataclass
class RayRanks:
    """The actors of one attempt."""

    actors: list[Any]
    calls: list[Any]
    group: Any

    def poll(self) -> int | None:
        """As soon as one rank is lost, its status; the others would wait for it."""
        ray = _ray()
        done, running = ray.wait(self.calls, num_returns=len(self.calls), timeout=0)
        for call in done:
            if (status := _status(call)) != 0:
                return status
        return None if running else 0

    def ask_to_stop(self) -> None:
        for actor in self.actors:
            actor.ask_to_stop.remote()

    def close(self) -> None:
        """End the ranks, and give their places back."""
        ray = _ray()
        ray.wait(
            [actor.end.remote() for actor in self.actors], num_returns=len(self.actors), timeout=TIDY_SECONDS
        )
        for actor in self.actors:
            ray.kill(actor)
        ray.util.remove_placement_group(self.group)


def _status(call: Any) -> int:
    ray = _ray()
    try:
        return int(ray.get(call))
    except ray.exceptions.RayError:
        return LOST
