"""A workspace with a little footage, and the data stages run in it."""

from pathlib import Path
from typing import Any

import yaml

from components.data.synthetic import SceneSpec
from components.params import Params
from components.report import Report
from components.stages import STAGES

ROOT = Path(__file__).parents[3]
LITTLE = {
    "footage.files": 10,
    "footage.scenes_per_file": 3,
    "footage.static_files": 2,
    "footage.text_files": 2,
    "footage.truncated_files": 1,
    "footage.validation_share": 0.2,
    "runtime.item_seconds": 30,
}

SCENE = SceneSpec(  # to be changed by `replace`
    colour="red",
    shape="circle",
    motion="left",
    background="grey stone",
    camera="still",
    height=96,
    width=96,
    frames=12,
    seed=5,
)


def make_root(folder: Path, **dotted: Any) -> Path:
    """A folder with the default parameters, made little, and `dotted` keys changed (`ingest__seed=2`)."""
    raw = yaml.safe_load((ROOT / "params.yaml").read_text())
    for path, value in {**LITTLE, **{key.replace("__", "."): value for key, value in dotted.items()}}.items():
        section, key = path.split(".")
        raw[section][key] = value
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "params.yaml").write_text(yaml.safe_dump(raw))
    return folder


def run_stage(root: Path, name: str) -> Report:
    """Run one stage as `components.stages.execute` does, without tracking."""
    params = Params.load(root / "params.yaml")
    stage = STAGES[name]
    return stage.load()(params.section(stage.section), stage.paths(root, params))
