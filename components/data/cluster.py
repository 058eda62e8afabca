"""Workers on the nodes of a Ray cluster, with the contract of the local pool.

Each worker is an actor that holds one process, and the item is worked on in that process: so a decoder that aborts
or hangs ends the process, is named with its signal or the time it took, and costs no actor. An actor that goes away
went with its node (or was ended by Ray because memory ran out there), which is not the item's fault: the item is
given to another one, a bounded number of times. Ray itself retries nothing: it would do so without end.

The code of this checkout is sent to the nodes, so that what they do is what is written here. The packages that
decode have to be installed there, in the same versions.
"""

import contextlib
import logging
import os
import pickle
import platform
import socket
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from components.data.code_version import ROOT, code_version
from components.data.outcomes import Limits, Result
from components.data.pool import Lost
from components.data.workers import Answer, Call, ItemProcess, result_of
from components.errors import UserError
from components.runtime import quiet_ray
from components.storage import ObjectPath

log = logging.getLogger(__name__)
LOOK_SECONDS = 2.0  # between looks at workers that say nothing
REACH_SECONDS = 10.0  # for the cluster to answer at all
FAILED_STARTS = 3  # in a row, after which no more workers are asked for
SENT = ("components", "models")  # packages of ours that are sent to the nodes
LEFT_OUT = ["**/__pycache__"]


@dataclass(frozen=True)
class Greeting:
    """What a worker says first: where it is, and whether it can do what this machine would."""

    node: str
    has_folder: bool
    code: str


class Host:
    """The actor: one process at a time, on one node."""

    def __init__(self, call: Call, item_seconds: float, folder: str) -> None:
        self.call, self.item_seconds = call, item_seconds
        self.has_folder = Path(folder).is_dir()
        if self.has_folder:
            os.chdir(folder)
        self.process: ItemProcess | None = None

    def hello(self) -> Greeting:
        self.started()
        return Greeting(platform.node(), self.has_folder, code_version(self.call.module))

    def do(self, item: bytes) -> Answer:
        """The answer to a pickled item."""
        process = self.started()
        process.give(item)
        while (answer := process.answer()) is None:
            process.wait()
        return answer

    def started(self) -> ItemProcess:
        """A process that waits for an item. Raises `RuntimeError` where there can be none."""
        if self.process is None or not self.process.alive:
            with _without_main():
                self.process = ItemProcess(self.call, self.item_seconds)
        while not self.process.idle:
            self.process.wait()
            if (answer := self.process.answer()) is not None:
                result_of(answer)  # says why
        return self.process


@contextlib.contextmanager
def _without_main() -> Iterator[None]:
    """A process that is started within imports what its work needs, and not the program of a Ray worker."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


class Cluster:
    """Hires workers on a cluster. Raises `UserError` where it cannot be reached, or has not what is asked for."""

    def __init__(self, call: Call, limits: Limits) -> None:
        self.ray, self.call, self.limits = connect(limits.cluster or ""), call, limits
        self.code = code_version(call.module)
        options = {"num_cpus": 1, "num_gpus": limits.gpus, "max_restarts": 0, "max_task_retries": 0}
        self.host = self.ray.remote(Host).options(**options, scheduling_strategy="SPREAD")
        self.heard = self.warned = time.monotonic()
        self.failed_starts = 0

    def hire(self) -> "ClusterWorker":
        return ClusterWorker(self)

    def wait(self, workers: Sequence["ClusterWorker"]) -> None:
        refs = {worker.answer: worker for worker in workers}
        ready, _ = self.ray.wait(list(refs), num_returns=len(refs), timeout=0)
        if not ready:
            ready, _ = self.ray.wait(list(refs), num_returns=1, timeout=LOOK_SECONDS)
        for ref in ready:
            refs[ref].has_answered = True
        if ready or any(worker.greeted for worker in workers):
            self.heard = time.monotonic()
        elif time.monotonic() - self.heard > self.limits.cluster_seconds:
            self._explain_wait()

    def greet(self, greeting: Greeting) -> None:
        """Raises `UserError` where a node would not do what this machine does."""
        self.failed_starts = 0
        if greeting.code != self.code:
            raise UserError(
                f"node {greeting.node} of {self.limits.cluster} has other versions of PyAV, OpenCV or NumPy than"
                " this machine, and would make other results; use one image for all of them"
                " (`pip install -c constraints.txt`)"
            )

    def failed_start(self, why: str) -> None:
        """Raises `UserError` where workers end again and again before they take an item."""
        self.failed_starts += 1
        if self.failed_starts >= FAILED_STARTS:
            raise UserError(f"workers on {self.limits.cluster} end before they take an item: {why}")

    def _explain_wait(self) -> None:
        asked = "1 CPU" + (f" and {self.limits.gpus:g} GPU" if self.limits.gpus else "")
        nodes = [node["Resources"] for node in self.ray.nodes() if node["Alive"]]
        fitting = [
            node for node in nodes if node.get("CPU", 0) >= 1 and node.get("GPU", 0) >= self.limits.gpus
        ]
        if not fitting:
            has = "; ".join(f"{node.get('CPU', 0):g} CPU, {node.get('GPU', 0):g} GPU" for node in nodes)
            raise UserError(
                f"no node of {self.limits.cluster} has {asked} for a worker (nodes: {has or 'none'}), and none came"
                f" within {self.limits.cluster_seconds:g} s; add such a node, change `runtime.gpus`, or raise"
                " `runtime.cluster_seconds` where nodes are started on demand. What is finished is kept"
            )
        if time.monotonic() - self.warned > self.limits.cluster_seconds:
            self.warned = time.monotonic()
            log.warning("waiting for %s: all of it is in use on %s", asked, self.limits.cluster)


class ClusterWorker:
    """An actor, what it was asked last, and which item it holds."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.actor = cluster.host.remote(cluster.call, cluster.limits.item_seconds, str(Path.cwd()))
        self.answer = self.actor.hello.remote()
        self.alive, self.idle = True, False
        self.greeted = self.has_answered = False
        self.held: tuple[int, Any] | None = None
        self.node, self.has_folder = "", False

    def give(self, index: int, item: Any) -> None:
        if not self.has_folder and reads_local_files(item):
            raise UserError(
                f"node {self.node} of {self.cluster.limits.cluster} has no folder {Path.cwd()}; put the workspace and"
                " the videos where every node sees them under the same path, read them from s3://, or set"
                " `runtime.cluster` to null"
            )
        self.held, self.idle, self.has_answered = (index, item), False, False
        self.answer = self.actor.do.remote(pickle.dumps(item, protocol=pickle.HIGHEST_PROTOCOL))

    def collect(self) -> tuple[int, Result[Any]] | Lost | None:
        from ray.exceptions import RayError, RayTaskError, RuntimeEnvSetupError

        if not self.has_answered or self.idle:
            return None
        try:
            answer = self.cluster.ray.get(self.answer)
        except RayTaskError as error:
            raise RuntimeError(f"a worker on {self.cluster.limits.cluster} failed\n{error}") from None
        except RuntimeEnvSetupError as error:
            raise UserError(f"{self.cluster.limits.cluster} cannot take our code: {error}") from None
        except RayError as error:
            return self._gone(_first_line(error))
        if self.held is None:
            self.cluster.greet(answer)
            self.node, self.has_folder = answer.node, answer.has_folder
            self.greeted = self.idle = True
            return None
        (index, _), self.held, self.idle = self.held, None, True
        return index, result_of(answer)

    def _gone(self, why: str) -> Lost | None:
        self.stop()
        if self.held is None:
            self.cluster.failed_start(why)
            return None
        log.warning(
            "a worker on %s was lost; its item is worked on again: %s", self.cluster.limits.cluster, why
        )
        return Lost(*self.held, why)

    def stop(self) -> None:
        self.alive = self.idle = False
        with contextlib.suppress(Exception):  # it may be gone, and the cluster too
            self.cluster.ray.kill(self.actor, no_restart=True)


def reads_local_files(item: Any) -> bool:
    """True where an item names a file of a file system, and not only objects of a store."""
    if isinstance(item, ObjectPath):
        return False
    if is_dataclass(item):
        return any(reads_local_files(getattr(item, one.name)) for one in fields(item))
    if isinstance(item, tuple | list):
        return any(map(reads_local_files, item))
    return isinstance(item, Path)


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def connect(address: str) -> Any:
    """Join a cluster, once per process, and return Ray. Raises `UserError` saying why it cannot be."""
    quiet_ray()
    try:
        ray: Any = import_module("ray")
    except ImportError:
        raise UserError(
            f"runtime.cluster is {address}, and Ray is not installed: `pip install 'reelforge[cluster]'`"
        ) from None
    if ray.is_initialized():
        return ray
    _reach(address)
    environment = {
        "py_modules": [str(ROOT / package) for package in SENT],
        "excludes": LEFT_OUT,
        "env_vars": {"OMP_NUM_THREADS": "1"},  # a worker has one core
    }
    quiet = {} if address.startswith("ray://") else {"log_to_driver": False, "logging_level": logging.ERROR}
    logging.getLogger("ray").setLevel(logging.ERROR)
    try:
        ray.init(address=address, runtime_env=environment, **quiet)
    except (RuntimeError, ValueError, OSError, ray.exceptions.RayError) as error:
        raise UserError(
            f"runtime.cluster: {address} cannot be used: {error}\n{_way_out(str(error))}"
        ) from None
    return ray


def describe(address: str, gpus: Mapping[str, float]) -> str:
    """What there is. Raises `UserError` where it cannot be reached, or has not the GPU that a stage asks for."""
    ray = connect(address)
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    disconnect()
    for stage, share in gpus.items():
        if not any(node.get("GPU", 0) >= share for node in nodes):
            raise UserError(
                f"runtime.gpus.{stage} asks for {share:g} GPU per worker, and no node of {address} has it now;"
                " lower it, or raise `runtime.cluster_seconds` where nodes are started on demand"
            )
    cores, cards = (sum(node.get(kind, 0) for node in nodes) for kind in ("CPU", "GPU"))
    return f"{address}: {len(nodes)} nodes, {cores:g} CPU, {cards:g} GPU"


def disconnect() -> None:
    """Leave the cluster, where this process is in one."""
    if "ray" in sys.modules:
        sys.modules["ray"].shutdown()


def _reach(address: str) -> None:
    """Ask for a connection first: Ray itself waits for minutes where there is nothing."""
    if address == "auto":
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        raise UserError(
            f"runtime.cluster: {address!r} is no address; use ray://HOST:10001 from outside of the cluster,"
            " HOST:6379 or auto on one of its nodes"
        )
    try:
        socket.create_connection((host, int(port)), timeout=REACH_SECONDS).close()
    except OSError as error:
        raise UserError(
            f"runtime.cluster: {address} does not answer ({error}); is the cluster up (`ray status`) and the port"
            " open (6379 for HOST:PORT, 10001 for ray://)? Set `runtime.cluster` to null to work on this machine"
        ) from None


def _way_out(message: str) -> str:
    if "ersion mismatch" in message or "versions" in message:
        return "Use the same Ray and Python here and there: `pip install 'ray==VERSION OF THE CLUSTER'`"
    if "uthenticat" in message:
        return (
            "Put the token of the cluster (`ray get-auth-token` there) into ~/.ray/auth_token,"
            " and set RAY_AUTH_MODE=token"
        )
    if "ray start" in message or "node" in message:
        return "HOST:PORT and auto need a node of the cluster on this machine; use ray://HOST:10001 from outside of it"
    return "Look at `ray status` on the head node"
