from pathlib import Path

import pytest
import yaml

from components.denoiser.config import MaskConfig
from components.errors import ParamsError
from components.params import Params

DEFAULT = Path(__file__).parents[2] / "params.yaml"


def load_changed(tmp_path: Path, change) -> Params:
    raw = yaml.safe_load(DEFAULT.read_text())
    change(raw)
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(raw))
    return Params.load(path)


def test_an_unknown_key_is_named_with_its_path_and_the_nearest_valid_name(tmp_path):
    with pytest.raises(
        ParamsError, match=r"train\.stage3\.optimiser: unknown parameter; did you mean `optimizer`"
    ):
        load_changed(tmp_path, lambda raw: raw["train"]["stage3"].update(optimiser={"lr": 1}))


def test_an_unknown_key_of_a_nested_model_section_is_named_too(tmp_path):
    with pytest.raises(ParamsError, match=r"autoencoder\.stage1\.model\.filterz"):
        load_changed(tmp_path, lambda raw: raw["autoencoder"]["stage1"]["model"].update(filterz=1))


def test_all_mistakes_are_named_at_once(tmp_path):
    def change(raw):
        raw["split"]["min_seconds"] = -1
        raw["nonsense"] = {}

    with pytest.raises(ParamsError) as caught:
        load_changed(tmp_path, change)
    assert "split.min_seconds" in str(caught.value)
    assert "nonsense" in str(caught.value)


def test_a_missing_section_is_named(tmp_path):
    with pytest.raises(ParamsError, match="gate"):
        load_changed(tmp_path, lambda raw: raw.pop("gate"))


def test_a_file_that_is_no_yaml_is_refused(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text("a: [1, 2")
    with pytest.raises(ParamsError, match="not valid YAML"):
        Params.load(path)


def test_a_missing_file_says_how_to_get_one(tmp_path):
    with pytest.raises(ParamsError, match="recipes use"):
        Params.load(tmp_path / "params.yaml")


def test_a_stage_has_workers_and_gpus_of_its_own_or_those_of_all(tmp_path):
    def change(raw):
        raw["runtime"] |= {
            "workers": 3,
            "cluster": "auto",
            "concurrency": {"score": 64},
            "gpus": {"score": 0.25},
        }

    runtime = load_changed(tmp_path, change).runtime
    score, split = runtime.limits("score"), runtime.limits("split")
    assert (score.workers, score.gpus) == (64, 0.25)
    assert (split.workers, split.gpus) == (3, 0.0)
    assert score.cluster == split.cluster == "auto"
    with pytest.raises(ParamsError, match=r"runtime\.concurrency"):
        load_changed(tmp_path, lambda raw: raw["runtime"].update(concurrency={"skore": 2}))


def test_a_selection_that_the_filter_does_not_define_is_named_with_those_it_does(tmp_path):
    def change(raw):
        raw["filter"]["selections"] = {"good": {}, "best": {}}
        raw["train"]["stage2"]["batches"] = {**raw["train"]["stage2"]["batches"], "selection": "goood"}

    with pytest.raises(
        ParamsError, match=r"train\.stage2\.batches\.selection: .*`goood`.* defines best, good"
    ):
        load_changed(tmp_path, change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"super_resolution_1": {"upsampling": None}}, "super_resolution_1 enlarges nothing"),
        (
            {"super_resolution_2": {"upsampling": {"low_resolution": "20px", "max_noise_time": 300}}},
            "super_resolution_2 starts from 20px.*it makes 39px",
        ),
        (
            {"cascade": {"noise_times": [100, 301]}},
            "asks for 301, and super_resolution_2 learns noise up to 300",
        ),
    ],
)
def test_models_of_a_cascade_that_would_not_follow_each_other_are_refused_before_they_train(
    tmp_path, change, message
):
    raw = yaml.safe_load((DEFAULT.parent / "recipes/walt_tiny.yaml").read_text())
    for name, values in change.items():
        raw["walt"][name] |= values
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(raw))
    with pytest.raises(ParamsError, match=message):
        Params.load(tmp_path / "params.yaml")


def test_more_masks_than_samples_are_refused_with_their_sum():
    with pytest.raises(ValueError, match=r"sum to 1\.2; at most 1"):
        MaskConfig(random=0.7, image_head=0.5)


def test_captions_with_scores_need_scores(tmp_path):
    def change(raw):
        raw["train"]["stage3"]["batches"] = {**raw["train"]["stage3"]["batches"], "captions": "scored"}

    with pytest.raises(ParamsError, match=r"train\.stage3\.batches\.captions: .*caption\.suffixes"):
        load_changed(tmp_path, change)
    load_changed(tmp_path, lambda raw: (change(raw), raw["caption"].update(suffixes=["motion"])))
