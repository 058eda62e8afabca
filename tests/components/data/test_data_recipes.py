"""The published data recipes: every file is a valid parameter set, whole or laid over the default."""

import pytest
import yaml
from footage_workspace import ROOT

from components.data.filter import wanted_rules
from components.params import Params

OVERLAYS = sorted((ROOT / "recipes/data").glob("*.yaml"))


def laid_over(path, base="params.yaml"):
    """The parameters of `base` with those that `path` names in their place, section by section."""
    raw = yaml.safe_load((ROOT / base).read_text())
    for section, changes in yaml.safe_load(path.read_text()).items():
        assert section in raw
        raw[section] |= changes
    return Params.model_validate(raw)


@pytest.mark.parametrize("base", ["params.yaml", "recipes/open_sora_1_2.yaml"])
@pytest.mark.parametrize("path", OVERLAYS, ids=lambda path: path.stem)
def test_a_data_recipe_is_valid_over_a_whole_one(path, base):
    assert laid_over(path, base).filter.selections


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
