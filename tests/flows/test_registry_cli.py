"""`compare`, `registry margins` and `promote` as they are typed."""

import shutil
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from components.artifacts import write_json
from components.errors import UserError
from flows.cli.app import app
from tests.components.registry.contestants import contestant
from tests.components.registry.release_files import REPOSITORY, write_evaluation

runner = CliRunner()


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    """Three evaluations, and a policy for as few samples as they have."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    text = (REPOSITORY / "params.yaml").read_text()
    for old, new in (("min_samples: 256", "min_samples: 64"), ("permutations: 500", "permutations: 99")):
        assert old in text
        text = text.replace(old, new)
    margins = text[text.index("  margins:") : text.index("\n", text.index("  margins:"))]
    (tmp_path / "params.yaml").write_text(text.replace(margins, "  margins: {validation_loss: 0.05}"))
    write_json(tmp_path / "frozen_baseline/record.json", {"champion": None})
    for name, damage in (("good", 0.0), ("bad", 2.0)):
        write_evaluation(tmp_path / name, contestant(name, seed=len(name), damage=damage))
    return tmp_path


def test_compare_prints_every_check_and_the_verdict(workspace):
    result = runner.invoke(app, ["compare", "good", "bad"])
    assert result.exit_code == 0, result.output
    assert "promote: toy_fvd" in result.output
    for words in ("validation_loss", "primary", "guard", "floor", "passed"):
        assert words in result.output
    turned = runner.invoke(app, ["compare", "bad", "good"])
    assert turned.exit_code == 3
    assert "reject: " in turned.output


def test_compare_refuses_a_folder_without_an_evaluation(workspace):
    result = runner.invoke(app, ["compare", "good", "nothing"])
    assert isinstance(result.exception, UserError)
    assert "no record.json" in str(result.exception)
    assert "no model_index.json" in str(result.exception)


def test_margins_of_two_runs(workspace):
    for seed in (1, 2):
        side = contestant("model", seed=seed)
        record = replace(side.record, protocol={"generation": {"seed": seed}})
        write_evaluation(workspace / f"run-{seed}", replace(side, record=record))
    result = runner.invoke(app, ["registry", "margins", "run-1", "run-2"])
    assert result.exit_code == 0, result.output
    assert "toy_fvd" in result.output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["promote", "--override"], "name the version to promote"),
        (["promote", "--by", "somebody"], "belong to --override"),
        (["promote"], "there is no verdict yet"),
    ],
)
def test_promote_says_what_it_lacks(workspace, arguments, words):
    for name in ("components", ".dvc"):
        (workspace / name).mkdir()
    shutil.copy(REPOSITORY / "dvc.yaml", workspace)
    (workspace / ".git").mkdir()
    result = runner.invoke(app, arguments)
    assert isinstance(result.exception, UserError), result.output
    assert words in str(result.exception)
