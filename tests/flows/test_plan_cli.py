"""`reelforge plan` as it is typed: the verdict first, tables, a JSON file, and errors with the way out."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from components.artifacts import read_json
from components.errors import UserError
from flows.cli import plan
from flows.cli.app import app

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _in_a_clone(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """One in which nothing has run: the plan looks for the table of clips."""
    clone = tmp_path_factory.mktemp("clone")
    for name in ("components", "models", "recipes", "params.yaml"):
        (clone / name).symlink_to(ROOT / name)
    monkeypatch.chdir(clone)


def said(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["plan", *arguments], catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


def test_a_plan_says_first_whether_it_fits_and_what_it_costs(tmp_path: Path) -> None:
    target = tmp_path / "plan.json"
    out = said("causal_5b", "--gpus", "8xA100-40GB", "--stage", "causal@stage2", "--json", str(target))
    first, second = out.splitlines()[:2]
    assert first.startswith("does not fit: causal@stage2 bucket 720p x 121 needs")
    told = read_json(target)
    assert f"{told['gpu_hours']:,.4g} GPU-hours" in second
    assert told["verdicts"] == [line for line in out.splitlines() if line.startswith("does not fit")]
    (stage,) = told["stages"]
    assert stage["gpu_hours"] == pytest.approx(stage["hours"] * 8)
    assert stage["money"] == pytest.approx(stage["gpu_hours"] * 2.0)
    for bucket in stage["buckets"]:
        memory = bucket["memory"]
        assert memory["total"] == memory["states"] + memory["activations"] + memory["reserve"]
    assert "no clip table here" in out


def test_price_and_mfu_change_the_bill_in_proportion(tmp_path: Path) -> None:
    bills = []
    for index, options in enumerate([(), ("--price", "4"), ("--mfu", "0.22")]):
        target = tmp_path / f"{index}.json"
        said("causal_tiny", "--gpus", "2xH100", "--stage", "causal@stage1", "--json", str(target), *options)
        bills.append(read_json(target)["money"])
    assert bills[1] == pytest.approx(2 * bills[0])
    assert bills[2] == pytest.approx(bills[0] / 2)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("demo", "--gpus", "some"), "give a number and a kind"),
        (("demo", "--gpus", "8xH1000"), "unknown GPU H1000; known: B200"),
        (("demo", "--gpus", "adapt=0xH100"), "give a number and a kind"),
        (("demo", "--mfu", "40"), "--mfu 40"),
        (("dmeo",), "there is no recipe `dmeo`; recipes: "),
        (("demo", "--stage", "nothing"), "no stage of this recipe begins with"),
    ],
)
def test_what_cannot_be_planned_is_refused(arguments: tuple[str, ...], why: str) -> None:
    with pytest.raises(UserError, match=why):
        CliRunner().invoke(app, ["plan", *arguments], catch_exceptions=False)


def test_an_outcome_without_a_run_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipes").symlink_to(ROOT / "recipes")
    monkeypatch.setattr(plan, "ROOT", tmp_path)
    with pytest.raises(UserError, match="run the recipe first"):
        CliRunner().invoke(
            app, ["plan", "causal_tiny", "--stage", "causal@stage1", "--outcome"], catch_exceptions=False
        )
