"""One of several processes that train on a batch that is not finite: `-m tests.tiny_poisoned FOLDER POSITION`.

Batches are of three kinds, which not every process has met when another one does.
"""

import json
import sys
from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch import nn

from components.training.program import StepResult
from tests.tiny_training import Regression, loop_config, run_tiny


class Kinds(Regression):
    """As `Regression`, of several kinds."""

    def step(self, module: nn.Module, position: int, generator: torch.Generator) -> StepResult:
        return replace(super().step(module, position, generator), kind=f"kind {position % 3}")


def main() -> None:
    torch.set_num_threads(1)
    root, poisoned = Path(sys.argv[1]), int(sys.argv[2])
    program = Kinds(lambda position: float("nan") if position == poisoned else None)
    result = run_tiny(root, loop_config(), program)
    if torch.distributed.get_rank() == 0:
        torch.save(program.module.state_dict(), root / "weights.pt")
        (root / "incidents.json").write_text(json.dumps([asdict(one) for one in result.incidents]))


if __name__ == "__main__":
    main()
