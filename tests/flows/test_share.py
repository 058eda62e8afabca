"""What the end of a run says about sharing it."""

import subprocess
from pathlib import Path

import pytest

from components.params import Params
from flows.share import how_to_share

ROOT = Path(__file__).parents[2]
REMOTE = "[core]\n    remote = team\n['remote \"team\"']\n    url = s3://bucket\n"


@pytest.fixture
def clone(tmp_path) -> Path:
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc/config").write_text("[core]\n    analytics = false\n")
    (tmp_path / "params.yaml").write_text("recipe: demo\n")
    git(tmp_path, "init", "-q")
    (tmp_path / ".gitignore").write_text("/.dvc/config.local\n")
    commit(tmp_path)
    return tmp_path


def git(folder: Path, *arguments: str) -> None:
    who = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
    subprocess.run(["git", "-C", str(folder), *who, *arguments], check=True)


def commit(folder: Path) -> None:
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "all")


def params(**runtime) -> Params:
    whole = Params.load(ROOT / "params.yaml")
    return whole.model_copy(update={"runtime": whole.runtime.model_copy(update=runtime)})


def ran(folder: Path) -> None:
    (folder / "dvc.lock").write_text("schema: '2.0'\n")
    (folder / "reports").mkdir(exist_ok=True)
    (folder / "reports/gate.json").write_text("{}")


def test_without_a_remote_there_is_nobody_to_share_with(clone):
    ran(clone)
    assert how_to_share(clone, params()) == []


def test_the_commands_it_names_leave_nothing_to_say(clone):
    (clone / ".dvc/config.local").write_text(REMOTE)
    assert how_to_share(clone, params()) == []
    ran(clone)
    said = how_to_share(clone, params(store="s3://team/store"))
    assert "git add dvc.lock reports &&" in said[0]
    assert "reelforge pull" in said[1]
    git(clone, "add", "dvc.lock", "reports")
    assert how_to_share(clone, params())  # staged is not committed
    git(clone, "commit", "-q", "-m", "a run")
    assert how_to_share(clone, params()) == []


def test_every_baseline_that_a_run_changes_and_git_keeps_is_named(clone):
    there = {folder.name for folder in ROOT.glob("*baseline")}
    for name in there:
        (clone / name).mkdir()
        (clone / name / "record.json").write_text("{}")
    (clone / ".dvc/config.local").write_text(REMOTE)
    (clone / "dvc.lock").touch()
    said = " ".join(how_to_share(clone, params(store="s3://bucket/store")))
    assert there <= set(said.replace("&&", " ").split())


def test_a_store_on_this_machine_is_told_with_the_place_that_all_reach(clone):
    (clone / ".dvc/config").write_text(REMOTE)
    ran(clone)
    assert "runtime.store: s3://BUCKET/store" in how_to_share(clone, params())[-1]
    (clone / "profile.yaml").write_text(
        "made_by: reelforge services\nmlflow_uri: http://h:1\nprefect_api: http://h:2/api\n"
        "buckets: {raw: a, dvc: team-dvc, mlflow: c, checkpoints: d}\n"
    )
    assert "runtime.store: s3://team-dvc/store" in how_to_share(clone, params())[-1]
    assert not any("runtime.store" in line for line in how_to_share(clone, params(store="s3://x/store")))
