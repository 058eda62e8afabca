"""A Ray cluster of two nodes on the loopback interface, for tests and benchmarks: started as a user starts one."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil

from components.data.cluster import disconnect

HERE = Path(__file__).parent
START_SECONDS = 60
STORE_BYTES = 80 << 20  # of each node
# Ray takes 127.0.0.1 for the address of the machine, and then listens everywhere; with this it stays on the loopback
DRIVER = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_AUTH_MODE": "disabled"}
START = """
from ray._private import services
services.get_node_ip_address = lambda address=None: "127.0.0.1"
from ray.scripts.scripts import main
main()
"""
QUICK = {  # a dead node is noticed within seconds
    "health_check_initial_delay_ms": 0,
    "health_check_period_ms": 500,
    "health_check_timeout_ms": 1000,
    "health_check_failure_threshold": 4,
}


@dataclass(frozen=True)
class Nodes:
    """Where the cluster is, and the raylet of its second node."""

    address: str
    raylet: psutil.Process

    def second_works(self) -> bool:
        """True while the second node holds an item."""
        return any("Host.do" in " ".join(child.cmdline()) for child in self.raylet.children())

    def kill_second(self) -> None:
        os.kill(self.raylet.pid, signal.SIGKILL)


@contextmanager
def two_nodes(*, cpus: int = 1, environment: dict[str, str] | None = None) -> Iterator[Nodes]:
    """Two nodes with so many cores each, and the environment of what they run. Nothing of them is left afterwards."""
    environment = {name: value for name, value in (environment or os.environ).items() if name not in DRIVER}
    paths = filter(None, [environment.get("PYTHONPATH"), str(HERE)])  # where work of the tests is
    environment |= {"PYTHONPATH": os.pathsep.join(paths), "RAY_USAGE_STATS_ENABLED": "0"}
    environment["RAY_AUTH_MODE"] = "disabled"  # else a token is left in the home folder
    started: list[subprocess.Popen[bytes]] = []
    with TemporaryDirectory(prefix="ray", dir="/tmp") as folder:  # sockets need short names
        address = f"127.0.0.1:{free_port()}"
        try:
            head = ["--head", f"--port={address.rpartition(':')[2]}", f"--temp-dir={folder}"]
            head += ["--include-dashboard=false", f"--system-config={json.dumps(QUICK)}"]
            started.append(_start([*head, f"--num-cpus={cpus}"], environment))
            _wait_for_raylet(started[0])
            started.append(_start([f"--address={address}", f"--num-cpus={cpus}"], environment))
            yield Nodes(address, _wait_for_raylet(started[1]))
        finally:
            disconnect()
            for process in reversed(started):
                _end(process)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _start(arguments: list[str], environment: dict[str, str]) -> "subprocess.Popen[bytes]":
    common = ["--node-ip-address=127.0.0.1", f"--object-store-memory={STORE_BYTES}", "--disable-usage-stats"]
    return subprocess.Popen(
        [sys.executable, "-c", START, "start", "--block", *common, *arguments],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def _wait_for_raylet(process: "subprocess.Popen[bytes]") -> psutil.Process:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        for child in psutil.Process(process.pid).children(recursive=True):
            if child.name() == "raylet":
                return child
        time.sleep(0.1)
    raise RuntimeError("a Ray node did not start")


def _end(process: "subprocess.Popen[bytes]") -> None:
    family = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
    process.terminate()
    try:
        process.wait(timeout=20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    _, left = psutil.wait_procs(family, timeout=5)
    for child in left:
        child.kill()
