"""`python -m components STAGE`: what `dvc.yaml` calls. Exit code 2 is a user's error, 130 or 143 a stop."""

import argparse
import logging
import sys
from pathlib import Path

from components.errors import Interruption, UserError
from components.runtime import use_profile
from components.stages import STAGES, execute


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m components", description=__doc__)
    parser.add_argument("stage", choices=list(STAGES), metavar="STAGE", help=", ".join(STAGES))
    parser.add_argument("--root", type=Path, default=Path(), help="workspace (default: this folder)")
    arguments = parser.parse_args()
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s  %(levelname)s  %(name)s  %(message)s", datefmt="%H:%M:%S"
    )
    try:
        use_profile(arguments.root)
        execute(arguments.stage, arguments.root)
    except UserError as error:
        print(f"{arguments.stage}: {error}", file=sys.stderr)
        return 2
    except Interruption as stopped:
        print(f"{arguments.stage}: {stopped}", file=sys.stderr)
        return stopped.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
