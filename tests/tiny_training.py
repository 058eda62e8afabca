"""A training program of a few hundred weights, and a process that runs it: `-m tests.tiny_training FOLDER ZERO ...`."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from components.artifacts import StagePaths
from components.training.config import LoopConfig, OptimizerConfig
from components.training.fingerprint import Fingerprint
from components.training.loop import TrainResult, train
from components.training.program import StepResult

Hook = Callable[[int], Any]  # called with the position before each batch


class Regression:
    """Learns a fixed map of random vectors. `at_position` may interfere."""

    def __init__(self, at_position: Hook = lambda _: None) -> None:
        torch.manual_seed(7)
        self.module: nn.Module = nn.Sequential(nn.Linear(6, 16), nn.GELU(), nn.Linear(16, 3))
        self.at_position = at_position
        self.losses: list[float] = []

    def step(self, module: nn.Module, position: int, generator: torch.Generator) -> StepResult:
        scale = self.at_position(position)
        inputs = torch.randn(8, 6, generator=generator)
        loss = (module(inputs).float() - inputs[:, :3].sin()).square().mean()
        if scale is not None:
            loss = loss * scale
        self.losses.append(loss.item())
        return StepResult(loss, {"double": 2 * loss.detach()}, [f"clip-{position}"])


def loop_config(**changes: Any) -> LoopConfig:
    """12 steps in float32 with warm-up; checkpoints every 5."""
    defaults: dict[str, Any] = {
        "steps": 12,
        "seed": 3,
        "optimizer": OptimizerConfig(lr=1e-2, warmup_steps=3, schedule="cosine", clip=0.5, weight_decay=0.01),
        "precision": "fp32",
        "ema": 0.9,
        "log_steps": 4,
        "checkpoint_steps": 5,
    }
    return LoopConfig(**{**defaults, **changes})


def loop_paths(root: Path) -> StagePaths:
    return StagePaths(root, {}, {"curve": root / "curves/tiny.csv"}, root / "checkpoints/tiny")


def run_tiny(
    root: Path,
    config: LoopConfig,
    program: Regression,
    *,
    fingerprint: str | Fingerprint = "f",
    resume: str | None = None,
) -> TrainResult:
    work = Fingerprint(fingerprint) if isinstance(fingerprint, str) else fingerprint
    return train(program, config, loop_paths(root), fingerprint=work, title="tiny", resume=resume)


def main() -> None:
    """Train once per ZeRO stage that is named after the folder."""
    torch.set_num_threads(1)
    for zero_stage in sys.argv[2:]:
        root = Path(sys.argv[1]) / zero_stage
        program = Regression()
        run_tiny(root, loop_config(zero_stage=int(zero_stage)), program)
        if torch.distributed.get_rank() == 0:
            torch.save(program.module.state_dict(), root / "weights.pt")


if __name__ == "__main__":
    main()
