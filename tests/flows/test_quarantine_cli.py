"""`reelforge data quarantine`: what training has named is shown, and only that can be chosen."""

import pytest
from typer.testing import CliRunner

from components.errors import UserError
from components.report import Report
from flows.cli.app import app


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    (tmp_path / "reports").mkdir()
    rows = [{"clip": name, "reason": "step 7: the loss is not finite"} for name in ("clip-a", "clip-b")]
    Report("train@stage1", quarantine=rows).write(tmp_path / "reports/train@stage1.json")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_dry_run_names_clips_with_their_stage_and_reason_and_writes_nothing(workspace):
    result = CliRunner().invoke(app, ["data", "quarantine", "--dry-run"])
    assert result.exit_code == 0, result.output
    for clip in ("clip-a", "clip-b"):
        assert f"{clip}  train@stage1, step 7: the loss is not finite" in result.output
    assert not (workspace / "registry").exists()


def test_a_clip_that_no_run_has_named_is_refused_with_the_other_way(workspace):
    result = CliRunner().invoke(app, ["data", "quarantine", "--clip", "clip-c"])
    assert isinstance(result.exception, UserError)
    assert "no training run has named clip-c; named: clip-a, clip-b" in str(result.exception)
    assert "reelforge data remove --clip" in str(result.exception)
