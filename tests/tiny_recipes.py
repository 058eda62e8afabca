"""A system's small recipe at a handful of clips and two steps a stage: same stages, same code, seconds."""

import shutil
from pathlib import Path
from typing import Any

import torch
import yaml

from components.artifacts import write_json
from components.evaluation.classifier import ClassifierConfig, VideoClassifier, save
from components.evaluation.text_video import TextVideoEncoder
from components.params import Params
from components.stages import execute, stages_of
from tests.tiny_clips import make_clips

ROOT = Path(__file__).parents[1]
STEPS, BATCH = 2, {1: 5, 9: 2}  # clips of so many frames at a time; five images make a stack
BASELINES = ("baseline", "frozen_baseline", "ladder_baseline")
AUTOENCODERS = {"walt": {"filters": 8}, "causal": {"filters": 8}, "hdvila": {"channels": [16, 32]}}
LADDER = {"steps": STEPS, "clips": 2, "reference_clips": 2, "sampling_steps": 2, "batch": 2}
SHARED = {
    "ladder": {"champion": "ladder_baseline"}
    | dict.fromkeys(("min_motion_energy", "min_temporal_flickering", "max_loss_above", "max_toy_fvd_times")),
    "evaluate": {
        "samples": 3,
        "sampler": {"steps": 2, "guidance": 2.0},
        "gallery": 2,
        "reconstruction_clips": 2,
        "validation_loss_times": 2,
    },
    "gate": {
        "min_samples": 3,
        "min_items": 2,
        "min_samples_per_feature": 0.0,
        "permutations": 20,
        "bootstrap": 50,
    },
    "runtime": {"workers": 1},
}


def make_shared(root: Path, database: Path) -> Path:
    """What the systems share: clips, their text encoder, an extractor with random weights, and an empty registry."""
    make_clips(root, validation=(3, 4, 5), sizes=((96, 96), (80, 120)))
    write_recipe(root, "walt")
    for name in BASELINES:
        shutil.copytree(ROOT / name, root / name)
    write_json(root / "artifacts/validate/result.json", {})
    execute("text_encoder", root)
    folder = root / "artifacts/extractor"
    folder.mkdir(parents=True)
    torch.manual_seed(0)
    save(VideoClassifier(ClassifierConfig((4, 8), 9, 32)), folder)
    TextVideoEncoder(8).save(folder)
    shutil.copyfile(database, root / "mlflow.db")
    return root


def write_recipe(root: Path, system: str, **gate: Any) -> Params:
    """Write the recipe as `params.yaml`; `gate` are floors that the candidate has to keep."""
    path = ROOT / f"recipes/{system}_tiny.yaml"
    raw, full = yaml.safe_load(path.read_text()), Params.load(path)
    for name, values in SHARED.items():
        raw[name] = {**raw[name], **values}
    raw["gate"]["floors"] = {**raw["gate"]["floors"], "min_reconstruction_psnr": 0.0, **gate}
    for stage in stages_of(full).values():
        if stage.system and stage.trains:
            name = stage.section.partition(".")[2]
            raw[system][name] = _shortened(raw[system][name])
    section = raw[system]["autoencoder"]
    section["model"] = {**section["model"], **AUTOENCODERS[system]}
    for family in raw[system]["encode"].values():
        family["windows"] = 1
    (root / "params.yaml").write_text(yaml.safe_dump(raw))
    return Params.load(root / "params.yaml")


def _shortened(section: dict[str, Any]) -> dict[str, Any]:
    """A training stage at two steps, with all the looks that it takes."""
    changes: dict[str, Any] = {"steps": STEPS, "checkpoint_steps": STEPS, "log_steps": 1}
    changes["validation"] = {"steps": STEPS, "samples": 2, "times": 2}
    if "ladder" in section:
        changes["ladder"] = LADDER
    if "batches" in section:
        buckets = {
            size: {frames: [share, BATCH[int(frames)]] for frames, (share, _) in drawn.items()}
            for size, drawn in section["batches"]["buckets"].items()
        }
        changes["batches"] = {**section["batches"], "buckets": buckets}
    else:
        changes["data"] = {**section["data"], "batch": 2}
    return {**section, **changes}
