"""`compare`, `registry margins` and `promote` as they are typed."""

import shutil
import sys
from dataclasses import replace

import pytest
import yaml
from typer.testing import CliRunner

from components.artifacts import write_json
from components.errors import UserError
from components.registry.history import append_history, shared_history
from components.registry.versions import TEXT_TO_VIDEO
from components.tracking_writer import connect
from flows.cli.app import app, main
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


def test_a_policy_is_a_file_with_a_gate_section_and_nothing_else(workspace):
    gate = yaml.safe_load((workspace / "params.yaml").read_text())["gate"]
    path = workspace / "strict.yaml"
    path.write_text(yaml.safe_dump({"gate": {**gate, "min_samples": 65}}))
    result = runner.invoke(app, ["compare", "good", "bad", "--policy", "strict.yaml"])
    assert "64 samples, 65 are needed" in result.output, result.exception
    for content, words in (
        ({"gates": gate}, "no section `gate`"),
        ({"gate": {**gate, "alpha": 2}}, "gate.alpha"),
    ):
        path.write_text(yaml.safe_dump(content))
        result = runner.invoke(app, ["compare", "good", "bad", "--policy", "strict.yaml"])
        assert isinstance(result.exception, UserError)
        assert words in str(result.exception)


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


def test_brackets_in_a_reason_are_printed_as_they_are(workspace, empty_database):
    """Square brackets are the markup of the library that prints: `[/]` ended the command with a traceback."""
    for name in ("components", ".dvc", ".git"):
        (workspace / name).mkdir()
    shutil.copy(REPOSITORY / "dvc.yaml", workspace)
    shutil.copy(empty_database, workspace / "mlflow.db")
    connect(workspace).create_registered_model(TEXT_TO_VIDEO)
    entry = {"event": "kept back", "version": 1, "model_sha256": "0" * 64, "champion_before": None}
    append_history(workspace, {**entry, "reason": "flicker [red]above[/] the sky [/data/pans]"})
    result = runner.invoke(app, ["registry", "history"])
    assert result.exit_code == 0, result.output
    decision, reason = result.output.splitlines()  # whole, however narrow the page is
    assert decision.startswith(f"{shared_history(workspace)[0]['time']}  kept back  v1  ")
    assert reason.strip() == "flicker [red]above[/] the sky [/data/pans]"


def test_brackets_in_an_error_are_printed_as_they_are(workspace, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["reelforge", "compare", "good", "[/data]/[old]"])
    with pytest.raises(SystemExit):
        main()
    assert "[/data]/[old] holds no evaluation" in capsys.readouterr().err
