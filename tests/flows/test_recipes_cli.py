"""`reelforge recipes`: a recipe, with overlays laid on it, becomes the workspace's parameters."""

import shutil
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from components.errors import ParamsError, UserError
from components.params import Params
from flows.cli import recipes
from flows.edit_params import set_values

CLONE = Path(__file__).parents[2]


@pytest.fixture
def root(tmp_path, monkeypatch):
    shutil.copytree(CLONE / "recipes", tmp_path / "recipes")
    shutil.copy(CLONE / "params.yaml", tmp_path)
    monkeypatch.setattr(recipes, "ROOT", tmp_path)
    return tmp_path


def run(*arguments):
    result = CliRunner().invoke(recipes.app, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0
    return result.output


def test_a_recipe_alone_is_copied_byte_by_byte(root):
    run("use", "walt_t2v")
    assert (root / "params.yaml").read_bytes() == (root / "recipes/walt_t2v.yaml").read_bytes()


def test_a_recipe_with_an_overlay_has_its_values_and_keeps_all_others_and_the_comments(root):
    run("use", "hdvila_shifted_window", "--with", "data/hdvila")
    params = Params.load(root / "params.yaml")
    plain = Params.load(root / "recipes/hdvila_shifted_window.yaml")
    assert (params.filter.min_side, params.filter.selections["high_resolution"].min_aesthetic) == (720, 5.0)
    assert params.filter.min_sharpness == plain.filter.min_sharpness
    assert params.hdvila == plain.hdvila
    text = (root / "params.yaml").read_text()
    assert "# LAION scale" in text
    assert '"1:1"' in text  # which is a number without its quotes


def test_the_last_of_several_overlays_wins_and_showing_one_writes_nothing(root):
    before = (root / "params.yaml").read_text()
    shown = yaml.safe_load(run("show", "demo", "--with", "data/hdvila", "--with", "data/walt"))
    assert (shown["filter"]["min_side"], shown["filter"]["min_aesthetic"]) == (128, 4.5)
    assert set(shown["filter"]["selections"]) == {
        *("low_resolution", "high_resolution"),
        *("base", "super_resolution"),
    }
    assert (root / "params.yaml").read_text() == before


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            "filter: {min_asthetic: 4}",
            r"mine\.yaml: filter\.min_asthetic: unknown parameter; did you mean `min_aes",
        ),
        ("fliter: {min_aesthetic: 4}", r"mine\.yaml: fliter: unknown parameter; did you mean `filter`"),
        ("split: {min_seconds: 99}", r"mine\.yaml: split: .*min_seconds 99.* is not below max_seconds"),
        ("walt: {base: {steps: 5}}", r"mine\.yaml: the recipe `demo` has no section walt"),
        (
            "train: {stage1: {batches: {selection: best}}}",
            r"mine\.yaml: train\.stage1\.batches\.selection: .*`best`",
        ),
        ("- 3", r"mine\.yaml must be a mapping of sections"),
    ],
)
def test_a_bad_key_of_an_overlay_is_refused_by_name_and_nothing_is_written(root, content, said):
    (root / "recipes/data/mine.yaml").write_text(content)
    before = (root / "params.yaml").read_text()
    with pytest.raises(ParamsError, match=said):
        recipes.use_recipe(root, "demo", ["data/mine"])
    assert (root / "params.yaml").read_text() == before


def test_a_value_that_others_share_through_an_anchor_is_changed_in_its_place_alone(root):
    (root / "recipes/data/mine.yaml").write_text("train: {stage1: {batches: {seed: 5}}, stage3: {steps: 7}}")
    run("use", "demo", "--with", "data/mine")
    params, plain = (Params.load(root / path) for path in ("params.yaml", "recipes/demo.yaml"))
    assert params.train.stage1.batches == plain.train.stage1.batches.model_copy(update={"seed": 5})
    assert params.train.stage2 == plain.train.stage2
    assert params.train.stage3 == plain.train.stage3.model_copy(update={"steps": 7})
    assert params.model_copy(update={"train": plain.train}) == plain


def test_an_unknown_overlay_lists_the_overlays(root):
    with pytest.raises(UserError, match="no overlay `hdvila`; overlays: data/hdvila, data/walt"):
        recipes.use_recipe(root, "demo", ["hdvila"])


def test_edits_are_not_lost_and_what_was_written_here_is_no_edit(root):
    run("use", "demo", "--with", "data/walt")
    run("use", "walt_tiny")
    run("use", "walt_t2v", "--with", "data/walt")
    set_values(root / "params.yaml", {"split.threshold": 11.0})
    with pytest.raises(UserError, match=r"recipes use demo --with data/hdvila --force"):
        recipes.use_recipe(root, "demo", ["data/hdvila"])
    recipes.use_recipe(root, "demo", ["data/hdvila"], force=True)
    assert Params.load(root / "params.yaml").filter.min_side == 720


def test_overlays_are_listed_beside_the_recipes(root):
    said = run("list")
    assert "open_sora_1_2" in said and "data/hdvila" in said and "data/walt" in said
    assert "the published pair [p, p_time]" in " ".join(said.split())
