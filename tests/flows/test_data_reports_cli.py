"""`reelforge data sweep`, `buckets`, `report` and `accept` in a workspace with a finished data set."""

import re
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from components.artifacts import read_json, write_json
from components.errors import ContractError, UserError
from flows.cli import data_reports
from flows.cli.data import app
from tests.components.data.footage_workspace import make_root, run_stage

ROOT = Path(__file__).parents[2]
STAGES = ("footage", "ingest", "split", "score", "filter", "caption", "dedup", "validate")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    root = make_root(tmp_path_factory.mktemp("finished"))
    shutil.copytree(ROOT / "recipes", root / "recipes")
    write_json(root / "data_baseline/summary.json", {"version": None})
    for name in STAGES:
        run_stage(root, name).write(root / "reports" / f"{name}.json")
    return root


@pytest.fixture
def reelforge_data(finished, monkeypatch):
    """Run a command in the workspace; its output as one line per line of a wide terminal."""
    monkeypatch.chdir(finished)
    monkeypatch.setattr(data_reports.console, "_width", 160)

    def run(*arguments):
        result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
        assert result.exit_code == 0
        return result.stdout

    return run


def test_the_sweep_marks_the_current_threshold_with_what_the_filter_kept(reelforge_data, finished):
    said = reelforge_data("sweep", "--metric", "min_motion")
    passed = read_json(finished / "reports/filter.json")["counts"]["passed"]
    (current,) = [line for line in said.splitlines() if line.startswith("→")]
    threshold, _, _, joint, _ = current.removeprefix("→").split()
    assert float(threshold) == 0.005
    assert int(joint) == passed


def test_a_sweep_goes_over_the_range_that_was_asked_for(reelforge_data):
    said = reelforge_data("sweep", "--metric", "sharpness", "--from", "2", "--to", "4", "--steps", "3")
    tried = [float(line.split()[0]) for line in said.splitlines() if re.match(r"\s+\d", line)]
    assert tried == [2, 3, 4]


def test_the_sweep_needs_no_metric_and_takes_a_recipe(reelforge_data):
    said = reelforge_data("sweep", "--recipe", "open_sora_1_2")
    for threshold in ("min_motion", "min_sharpness", "max_text_share", "min_brightness", "max_brightness"):
        assert f"filter.{threshold}" in said
    # of aesthetics, whose weights are not here
    assert "selection stage2: asks for a score that no clip has" in said


def test_buckets_are_told_before_there_are_latents(reelforge_data, finished):
    assert not (finished / "artifacts/latents").exists()
    said = reelforge_data("buckets")
    assert [f"train@stage{number}" in said for number in (1, 2, 3)] == [True] * 3
    assert re.search(r"32px\s+9", said)


def test_buckets_of_another_recipe_and_of_the_published_walk(reelforge_data):
    said = reelforge_data(
        "buckets", "--recipe", "open_sora_1_2", "--stage", "train@stage3", "--walk", "published"
    )
    assert "train@stage3" in said
    assert "train@stage1" not in said
    assert "clips in no bucket: too_small" in said
    assert "nothing fits" in said


def test_an_unknown_recipe_names_the_known_ones(reelforge_data):
    with pytest.raises(UserError, match="open_sora_1_2"):
        reelforge_data("buckets", "--recipe", "none")


def test_the_report_says_where_it_is(reelforge_data, finished):
    assert "reports/data.html" in reelforge_data("report")
    assert "clips kept" in (finished / "reports/data.html").read_text()


def test_the_accepted_version_is_what_the_next_is_compared_with(reelforge_data, finished):
    assert "drift_motion" not in read_json(finished / "reports/validate.json")["metrics"]
    assert "data_baseline/summary.json" in reelforge_data("accept")
    report = run_stage(finished, "validate")
    assert report.metrics["drift_motion"] == 0
    summary = finished / "artifacts/validate/summary.json"
    assert summary.read_bytes() == (finished / "data_baseline/summary.json").read_bytes()


def test_without_a_clip_table_each_command_says_what_makes_one(tmp_path, monkeypatch):
    make_root(tmp_path)
    monkeypatch.chdir(tmp_path)
    for command in ("sweep", "buckets", "report"):
        with pytest.raises(ContractError, match="makes"):
            CliRunner().invoke(app, [command], catch_exceptions=False)
    with pytest.raises(UserError, match="reelforge stage validate"):
        CliRunner().invoke(app, ["accept"], catch_exceptions=False)
