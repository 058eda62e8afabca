"""`torchrun ... -m components.preflight CONFIG`: exit code 0 lets the gang start, 1 refuses it, 2 is a user's error."""

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from components.errors import UserError
from components.imports import end_quickly
from components.preflight.check import Check
from components.preflight.config import PreflightConfig
from components.preflight.gate import run
from components.runtime import launch

logger = logging.getLogger("preflight")


def main() -> int:
    end_quickly()
    parser = argparse.ArgumentParser(prog="python -m components.preflight", description=__doc__)
    parser.add_argument("config", type=Path, metavar="CONFIG", help="thresholds, as YAML")
    parser.add_argument("--result", type=Path, help="where to write all figures as JSON")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(levelname)s  %(name)s  %(message)s")
    try:
        checks = run(PreflightConfig.load(arguments.config))
    except UserError as error:
        logger.error("%s", error)
        return 2
    if launch().local_rank == 0:  # once on each node; all processes hold the same
        tell(checks, arguments.result)
    return 0 if all(check.passed for check in checks) else 1


def tell(checks: Sequence[Check], result: Path | None) -> None:
    """Log every figure, and write them all to `result`."""
    for check in checks:
        logger.log(logging.INFO if check.passed else logging.ERROR, "%s", check.sentence())
    if result:
        figures = [check.as_json() for check in checks]
        passed = all(check.passed for check in checks)
        result.parent.mkdir(parents=True, exist_ok=True)
        result.write_text(json.dumps({"passed": passed, "checks": figures}, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main())
