"""Two processes of a group that import once what both run: `python -m tests.two_ranks MODULE ARGUMENT ...`.

Most of what a small test of two ranks costs is the import of PyTorch, diffusers and DeepSpeed. Here one process imports
the module and forks; each fork calls its `main` with these arguments, as if it had been started by torchrun.
"""

import os
import socket
import subprocess
import sys
import traceback
from pathlib import Path

from components.imports import end_quickly, load

ROOT = Path(__file__).parents[1]
SECONDS = 300.0
RANKS = (0, 1)


def run(module: str, *arguments: Path | str) -> None:
    """Let two ranks do the `main` of a module; fails the test with what they said unless both end well."""
    command = [sys.executable, "-m", "tests.two_ranks", module, *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "REELFORGE_TRACKING": "off"}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]


def fork(module: str, rank: int, port: int) -> int:
    """The id of a child that is this rank."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": len(RANKS), "MASTER_PORT": port}
        os.environ.update({name: str(value) for name, value in place.items()})
        os.environ.update(MASTER_ADDR="127.0.0.1", GLOO_SOCKET_IFNAME="lo")
        sys.modules[module].main()
        code = 0
    except BaseException:  # noqa: BLE001  # a child must never go on as its parent
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def main() -> None:
    """Import, fork, and end as the ranks do."""
    end_quickly()
    module = sys.argv.pop(1)
    load(module)
    if "components.training.processes" in sys.modules:
        sys.modules["components.training.processes"].load_deepspeed()
        load("deepspeed.runtime.zero.muon.muon_optimizer")  # what ZeRO imports when it starts
    port = free_port()
    waiting = {fork(module, rank, port) for rank in RANKS}
    while waiting:
        child, status = os.wait()
        waiting.discard(child)
        if code := os.waitstatus_to_exitcode(status):  # the other one may wait for this one for ever
            for other in waiting:
                os.kill(other, 9)
            sys.exit(abs(code))


if __name__ == "__main__":
    main()
