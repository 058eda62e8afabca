"""A clone of the house at miniature size: same code, same stages, two or three steps each."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from flows.edit_params import set_values

ROOT = Path(__file__).parents[1]
STEPS = {
    **{f"autoencoder.{name}.steps": 3 for name in ("image", "stage1", "stage2", "stage3")},
    "pixart.steps": 3,
    **{
        f"adapt.{name}.steps": 2
        for name in (
            "multi_resolution",
            "qk_norm",
            "rectified_flow",
            "time_shift",
            "adam_eps",
            "autoencoder",
            "temporal",
            "masks",
        )
    },
    **{f"train.{name}.steps": 3 for name in ("stage1", "stage2", "stage3")},
    "extractor.steps": 3,
}
MINIATURE: dict[str, Any] = {
    **STEPS,
    "footage.files": 8,
    "footage.scenes_per_file": 3,
    "footage.static_files": 1,
    "footage.text_files": 1,
    "extractor.clips": 96,
    "extractor.held_out_clips": 48,
    "extractor.min_accuracy": {"shape": 0.0, "colour": 0.0, "motion": 0.0},
    "extractor.min_damage_times": 0.0,
    "extractor.min_caption_margin": {},
    "ladder.min_motion_energy": None,  # nothing is learned in three steps
    "ladder.min_temporal_flickering": None,
    "ladder.max_loss_above": None,
    "ladder.max_toy_fvd_times": None,
    "evaluate.samples": 6,
    "evaluate.gallery": 4,
    "evaluate.reconstruction_clips": 4,
    "evaluate.sampler": {"steps": 2, "guidance": 2.0},
    "gate.min_samples": 4,
    "gate.min_items": 2,
    "gate.min_samples_per_feature": 0.0,
    "gate.permutations": 20,
    "gate.bootstrap": 50,
    "gate.floors": {
        "max_toy_fvd_share_of_untrained": None,
        "min_colour_accuracy": None,
        "min_motion_accuracy": None,
        "min_motion_energy": 0.0,
        "min_reconstruction_psnr": 0.0,
    },
}


FOLDERS = (
    "models",
    "components",
    "flows",
    "recipes",
    "baseline",
    "frozen_baseline",
    "ladder_baseline",
    "data_baseline",
    "registry",
    "pipelines",
    ".dvc",
)


def make_workspace(folder: Path, **more: Any) -> Path:
    """A git and DVC workspace in `folder`, committed, with miniature parameters; `more` overrides dotted keys."""
    ignore = shutil.ignore_patterns("__pycache__", "tmp", "cache")
    for name in FOLDERS:
        shutil.copytree(ROOT / name, folder / name, ignore=ignore)
    (folder / "weights/curation").mkdir(parents=True)  # not the weights themselves, which are large
    for name in (".gitignore", "README.md"):
        shutil.copy(ROOT / "weights/curation" / name, folder / "weights/curation" / name)
    for name in ("dvc.yaml", "params.yaml", "prefect.yaml", ".gitignore", ".dvcignore"):
        shutil.copy(ROOT / name, folder / name)
    set_values(folder / "params.yaml", MINIATURE | more)
    git = ["git", "-C", str(folder), "-c", "user.name=test", "-c", "user.email=test@localhost"]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "add", "-A"], check=True)
    subprocess.run([*git, "commit", "-q", "-m", "workspace"], check=True)
    return folder


def environment(folder: Path, **more: str) -> dict[str, str]:
    """Environment of a process in the workspace: services keep their state inside it."""
    left_out = ("PREFECT_", "MLFLOW_", "PYTHONDONTWRITEBYTECODE")  # the last: dozens of processes, one code
    values = {name: value for name, value in os.environ.items() if not name.startswith(left_out)}
    values |= {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "PREFECT_HOME": str(folder.parent / "prefect-home"),
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "180",
        "REELFORGE_TRACKING": "on",
        "DO_NOT_TRACK": "1",
        "DVC_NO_ANALYTICS": "1",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "OMP_NUM_THREADS": "1",
    }
    return values | more


def call(folder: Path, *command: str, seconds: float = 900, **more: str) -> subprocess.CompletedProcess[str]:
    """Run a module of this interpreter in the workspace, as `call(folder, "dvc", "repro")`."""
    return subprocess.run(
        [sys.executable, "-m", *command],
        cwd=folder,
        env=environment(folder, **more),
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )


def reelforge(folder: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    return call(folder, "flows.cli.app", *arguments, **more)
