"""The published data recipes: every file is a valid parameter set, whole or laid over the default."""

import pytest
import yaml
from footage_workspace import ROOT

from components.data.filter import wanted_rules
from components.params import Params
from components.params import laid_over as over

OVERLAYS = sorted((ROOT / "recipes/data").glob("*.yaml"))


BASES = ["params.yaml", *sorted(f"recipes/{path.name}" for path in (ROOT / "recipes").glob("*.yaml"))]


def laid_over(path, base="params.yaml"):
    """The parameters of `base` with those that `path` names in their place, section by section."""
    raw = yaml.safe_load((ROOT / base).read_text())
    return Params.of(over(raw, yaml.safe_load(path.read_text())), path)


def leaves(value, path=()):
    """(path, value) of everything that is no section."""
    if not isinstance(value, dict) or not value:
        return {path: value}
    return {place: leaf for key in value for place, leaf in leaves(value[key], (*path, key)).items()}


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("path", OVERLAYS, ids=lambda path: path.stem)
def test_a_data_recipe_is_valid_over_a_whole_one(path, base):
    assert laid_over(path, base).filter.selections


@pytest.mark.parametrize("path", OVERLAYS, ids=lambda path: path.stem)
def test_laying_over_sets_what_the_overlay_names_and_nothing_else(path):
    base = yaml.safe_load((ROOT / "recipes/open_sora_1_2.yaml").read_text())
    overlay = yaml.safe_load(path.read_text())
    before, wanted = leaves(base), leaves(overlay)
    assert leaves(over(base, overlay)) == {**before, **wanted} != before
    assert leaves(base) == before


@pytest.mark.parametrize(
    ("name", "overlay", "of_stages"),
    [
        ("hdvila_shifted_window", "hdvila", {"stage1": None, "stage2": 5.0}),
        (
            "walt_t2v",
            "walt",
            {"base": None, "wide": None, "super_resolution_1": 512, "super_resolution_2": 512},
        ),
    ],
)
def test_over_its_own_recipe_an_overlay_gives_each_stage_its_data(name, overlay, of_stages):
    params = laid_over(ROOT / f"recipes/data/{overlay}.yaml", f"recipes/{name}.yaml")
    system = params.section(overlay)
    for stage, threshold in of_stages.items():
        chosen = params.filter.selections[getattr(system, stage).batches.selection]
        assert threshold in (chosen.min_aesthetic, chosen.min_side)


def test_hdvila_is_720p_and_filtered_by_looks():
    params = laid_over(ROOT / "recipes/data/hdvila.yaml")
    assert (params.filter.min_side, params.filter.min_aesthetic) == (720, 4.5)
    assert {"aesthetic", "size"} <= {rule.scorer for rule in wanted_rules(params.filter)}


def test_walt_takes_pictures_beside_videos():
    params = laid_over(ROOT / "recipes/data/walt.yaml")
    assert params.ingest.images
    assert params.split.min_seconds == 17 / 8


def test_open_sora_has_a_selection_for_each_of_its_three_stages():
    params = Params.load(ROOT / "recipes/open_sora_1_2.yaml")
    thresholds = {name: one.model_dump(exclude_none=True) for name, one in params.filter.selections.items()}
    assert thresholds == {"stage1": {}, "stage2": {"min_aesthetic": 4.5}, "stage3": {}}
