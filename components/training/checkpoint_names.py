"""What the folders of checkpoints are called, and their order by steps: `step-1000000` sorts before `step-999999`.

Apart from the checkpoints themselves, so that who only asks how far a run has come loads no PyTorch.
"""

from pathlib import Path

PREFIX = "step-"


def name_of(step: int) -> str:
    """The folder of a checkpoint after so many optimizer steps."""
    return f"{PREFIX}{step:06d}"


def step_of(folder: Path) -> int:
    """Optimizer steps of a checkpoint."""
    return int(folder.name.removeprefix(PREFIX))


def folders_in(checkpoints: Path) -> list[Path]:
    """The folders of checkpoints, the oldest first."""
    found = (path for path in checkpoints.glob(f"{PREFIX}*") if path.name.removeprefix(PREFIX).isdecimal())
    return sorted(found, key=step_of)


def newest_step(checkpoints: Path) -> int:
    """Optimizer steps of the newest checkpoint; 0 where there is none."""
    return max(map(step_of, folders_in(checkpoints)), default=0)
