"""Ranks by torchrun: all GPUs of a node, or of several nodes that run the same command and meet at one address."""

import signal
import subprocess
import sys

from components import runtime
from components.errors import UserError
from components.imports import end_quickly, load
from components.process_tree import end_tree, leave_with_parent
from components.training.config import LaunchConfig
from components.training.launch import Job


def start_torchrun(job: Job, attempt: int) -> "TorchrunRanks":
    """Start this node's ranks. Raises `UserError` where several nodes are asked for and have no place to meet."""
    command = [sys.executable, "-m", __name__, *_arguments(job.launch, attempt), *job.command]
    process = subprocess.Popen(command, env=runtime.rank_environment(attempt), start_new_session=True)
    return TorchrunRanks(process)


def _arguments(launch: LaunchConfig, attempt: int) -> list[str]:
    common = [
        f"--nnodes={launch.nodes}",
        f"--nproc-per-node={launch.processes or runtime.gpu_count() or 1}",
        "--max-restarts=0",  # what may be tried again is decided in `launch`
        f"--shutdown-timeout={int(launch.stop_seconds)}",
    ]
    if launch.nodes == 1:
        return [*common, "--standalone"]
    address = launch.address or runtime.launch_address()
    if address is None:
        raise UserError(
            f"runtime.launch asks for {launch.nodes} nodes and has no `address`: set it, or REELFORGE_LAUNCH_ADDRESS,"
            " to HOST:PORT of one of them, the same on all (infra/slurm/train.sbatch does)"
        )
    return [
        *common,
        "--rdzv-backend=c10d",
        f"--rdzv-endpoint={address}",
        f"--rdzv-id=reelforge-{attempt}",
    ]


class TorchrunRanks:
    """torchrun in a session of its own, which keeps the signals of a terminal from reaching ranks twice."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self.process = process

    def poll(self) -> int | None:
        return self.process.poll()

    def ask_to_stop(self) -> None:
        """torchrun passes it on, and waits for the ranks to leave."""
        self.process.send_signal(signal.SIGTERM)

    def close(self) -> None:
        end_tree(self.process.pid)
        self.process.wait()


def main() -> None:
    """torchrun, which leaves when the stage's process is gone."""
    end_quickly()
    leave_with_parent()
    load("torch.distributed.run").main()


if __name__ == "__main__":
    main()
