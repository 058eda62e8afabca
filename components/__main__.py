"""`python -m components STAGE`: what `dvc.yaml` calls. Exit code 2 is a user's error, 130 or 143 a stop.

Where `runtime.launch` asks for it, a training stage is run by processes of its own, which are this command again.
"""

import argparse
import logging
import sys
from pathlib import Path

from components import runtime
from components.errors import Interruption, UserError
from components.imports import end_quickly
from components.params import runtime_of
from components.process_tree import leave_with_parent
from components.stage import checkpoints_of
from components.stages import STAGES, execute, find


def main() -> int:
    end_quickly()
    parser = argparse.ArgumentParser(prog="python -m components", description=__doc__)
    parser.add_argument("stage", choices=list(STAGES), metavar="STAGE", help=", ".join(STAGES))
    parser.add_argument("--root", type=Path, default=Path(), help="workspace (default: this folder)")
    parser.add_argument(
        "--resume",
        metavar="latest|best|none|STEP|FOLDER",
        help="checkpoint that a training stage goes on from (default: REELFORGE_RESUME, or latest)",
    )
    arguments = parser.parse_args()
    if arguments.resume:
        runtime.set_resume(arguments.resume)
    logging.basicConfig(
        level=logging.INFO if runtime.is_main_process() else logging.WARNING,  # ranks say the same
        format="%(asctime)s  %(levelname)s  %(name)s  %(message)s",
        datefmt="%H:%M:%S",
    )
    if runtime.attempt() is not None:
        leave_with_parent()
    try:
        runtime.use_profile(arguments.root)
        run(arguments.stage, arguments.root)
    except UserError as error:
        return _leave(arguments.stage, arguments.root, str(error), 2)
    except Interruption as stopped:
        return _leave(arguments.stage, arguments.root, str(stopped), stopped.exit_code)
    return 0


def run(name: str, root: Path) -> None:
    """Run a stage in this process, or have it run by several."""
    stage, settings = find(name), runtime_of(root)
    if runtime.was_launched() or settings.launch.kind == "local" or not stage.trains:
        execute(name, root)
        return
    from components.training.launch import Job, launch_stage

    launch_stage(Job(name, root, checkpoints_of(root, name), settings.launch))


def _leave(stage: str, root: Path, message: str, exit_code: int) -> int:
    """Say why, to the process that started this one if there is such a one, else to the user."""
    if runtime.attempt() is not None:
        from components.training.launch import report_outcome

        report_outcome(checkpoints_of(root, stage), message, exit_code)
    else:
        for line in message.removeprefix(f"{stage}: ").splitlines():  # flows know the message by the name
            print(f"{stage}: {line}", file=sys.stderr)
    return exit_code


if __name__ == "__main__":
    sys.exit(main())
