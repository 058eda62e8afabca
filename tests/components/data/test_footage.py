import csv
import json
from itertools import chain, pairwise

import pytest
from footage_workspace import make_root, run_stage

from components.artifacts import sha256_of
from components.data.footage import Kind, plan_files
from components.data.synthetic import COMBINATIONS, attributes_of, held_out_combinations
from components.errors import UserError
from components.params import Params


def sidecars(videos):
    return {path.stem: json.loads(path.read_text()) for path in sorted(videos.glob("*.json"))}


@pytest.fixture(scope="module")
def default_plans():
    config = Params.load(make_root_of_defaults()).footage
    return config, plan_files(config)


def make_root_of_defaults():
    from footage_workspace import ROOT

    return ROOT / "params.yaml"


def combinations(plans):
    return {(scene.colour, scene.shape, scene.motion) for plan in plans for scene in plan.scenes}


def test_the_same_seed_writes_the_same_bytes(tmp_path, curated):
    again = make_root(tmp_path / "again")
    run_stage(again, "footage")
    assert sha256_of(again / "data" / "footage") == sha256_of(curated.videos)


def test_another_seed_writes_other_files(curated):
    config = Params.load(curated.root / "params.yaml").footage
    other = plan_files(config.model_copy(update={"seed": config.seed + 1}))
    assert not {scene for plan in other for scene in plan.scenes} & {
        scene for plan in plan_files(config) for scene in plan.scenes
    }


def test_held_out_combinations_are_shown_in_validation_only(default_plans):
    config, plans = default_plans
    held_out = held_out_combinations(config.seed, config.held_out_combinations)
    train = combinations(plan for plan in plans if plan.split == "train")
    validation = [plan for plan in plans if plan.split == "validation"]
    assert not train & held_out
    assert held_out <= combinations(validation)
    scenes = list(chain.from_iterable(plan.scenes for plan in validation))
    share = sum((scene.colour, scene.shape, scene.motion) in held_out for scene in scenes) / len(scenes)
    assert 0.4 < share < 0.6


def test_training_shows_every_other_combination_about_equally_often(default_plans):
    config, plans = default_plans
    held_out = held_out_combinations(config.seed, config.held_out_combinations)
    scenes = [
        scene for plan in plans for scene in plan.scenes if plan.split == "train" and plan.kind is Kind.PLAIN
    ]
    counts = {one: 0 for one in COMBINATIONS if one not in held_out}
    for scene in scenes:
        counts[scene.colour, scene.shape, scene.motion] += 1
    mean = len(scenes) / len(counts)
    assert min(counts.values()) > 0.6 * mean
    assert max(counts.values()) < 1.4 * mean


def test_validation_is_its_share_of_the_files_and_holds_no_special_one(default_plans):
    config, plans = default_plans
    validation = [plan for plan in plans if plan.split == "validation"]
    assert len(validation) == round(config.validation_share * config.files)
    assert {plan.kind for plan in validation} == {Kind.PLAIN}
    kinds = [plan.kind for plan in plans]
    assert kinds.count(Kind.STATIC) == config.static_files
    assert kinds.count(Kind.TEXT) == config.text_files
    assert kinds.count(Kind.TRUNCATED) == config.truncated_files


def test_neighbouring_scenes_have_different_backgrounds(default_plans):
    _, plans = default_plans
    for plan in plans:
        for one, other in pairwise(plan.scenes):
            assert one.background != other.background


def test_sidecars_give_scenes_without_gaps_and_captions_that_match(curated):
    for sidecar in sidecars(curated.videos).values():
        scenes = sidecar["scenes"]
        assert scenes[0]["start"] == 0
        assert all(one["end"] == other["start"] for one, other in pairwise(scenes))
        for scene in scenes:
            assert attributes_of(scene["caption"]) == {
                key: scene[key] for key in ("colour", "shape", "motion")
            }


def test_the_captions_file_has_a_row_per_scene(curated):
    rows = list(csv.DictReader((curated.videos / "captions.csv").open()))
    truth = [
        (f"{name}.mp4", scene["caption"], scene["start"])
        for name, sidecar in sidecars(curated.videos).items()
        for scene in sidecar["scenes"]
    ]
    assert [(row["path"], row["text"], float(row["start"])) for row in rows] == truth


def test_the_report_counts_what_is_there(curated):
    counts = curated.reports["footage"].counts
    assert counts["files"] == len(list(curated.videos.glob("*.mp4"))) == 10
    assert counts["files"] == sum(counts[f"files_{kind}"] for kind in Kind)
    assert counts["scenes"] == 30


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"footage__sizes": [[95, 96]]}, "odd"),
        ({"footage__static_files": 9}, "do not leave a plain one"),
        ({"footage__held_out_combinations": 40}, "between 0 and 24"),
    ],
)
def test_what_cannot_be_made_is_refused_before_anything_is_written(tmp_path, changes, message):
    root = make_root(tmp_path, **changes)
    with pytest.raises(UserError, match=message):
        run_stage(root, "footage")
    assert not (root / "data").exists()
