"""Bad input is refused with a sentence and exit code 2, before anything is written."""

import socket
import subprocess
from pathlib import Path

import pytest

from flows.edit_params import set_values
from flows.preflight import check_workspace
from tests.workspace import make_workspace, reelforge


@pytest.fixture(scope="module")
def pristine(tmp_path_factory) -> Path:
    return make_workspace(tmp_path_factory.mktemp("cli") / "clone")


@pytest.fixture
def workspace(pristine) -> Path:
    """The clone, put back to its commit."""
    git = ["git", "-C", str(pristine)]
    subprocess.run([*git, "checkout", "-q", "--", "."], check=True)
    subprocess.run([*git, "clean", "-fdq"], check=True)
    return pristine


def refused(workspace: Path, *arguments: str) -> str:
    """Standard error of a command that must end with exit code 2 and change nothing."""
    git = ["git", "-C", str(workspace), "status", "--porcelain"]
    before = subprocess.run(git, capture_output=True, text=True, check=True).stdout
    result = reelforge(workspace, *arguments)
    assert result.returncode == 2, result.stdout + result.stderr
    assert "Traceback" not in result.stderr
    assert subprocess.run(git, capture_output=True, text=True, check=True).stdout == before
    return " ".join(result.stderr.split())


def test_a_folder_that_does_not_exist(workspace, tmp_path):
    assert "does not exist" in refused(workspace, "run", "--videos", str(tmp_path / "nowhere"))


def test_an_empty_folder(workspace, tmp_path):
    assert "is empty" in refused(workspace, "run", "--videos", str(tmp_path))


def test_a_folder_without_videos_names_what_was_looked_for(workspace, tmp_path):
    (tmp_path / "notes.txt").write_text("no video")
    assert ".mp4" in refused(workspace, "run", "--videos", str(tmp_path))


def test_a_folder_with_unreadable_videos_only(workspace, tmp_path):
    (tmp_path / "broken.mp4").write_bytes(b"this is no video" * 100)
    assert "broken.mp4" in refused(workspace, "run", "--videos", str(tmp_path))


def test_an_unknown_parameter(workspace):
    path = workspace / "params.yaml"
    path.write_text(path.read_text().replace("flash_ratio:", "flash_ration:"))
    said = refused(workspace, "run")
    assert "split.flash_ration" in said
    assert "did you mean `flash_ratio`" in said


def test_a_captions_file_without_its_columns_names_those_it_has(workspace, tmp_path):
    captions = tmp_path / "captions.csv"
    captions.write_text("file,words\na.mp4,a dog\n")
    said = refused(workspace, "run", "--captions", str(captions))
    assert "path" in said and "text" in said and "words" in said


def test_no_disk_space(workspace):
    set_values(workspace / "params.yaml", {"runtime.min_free_gb": 10_000_000})
    assert "no space" in refused(workspace, "run")
    check_workspace(workspace)  # all that `reelforge status` and a rollback ask for: they need no room


def test_a_port_in_use(workspace):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        said = refused(workspace, "ui", "--mlflow-port", str(port))
    assert str(port) in said and "--mlflow-port" in said


def test_an_unknown_stage_lists_the_stages(workspace):
    assert "train@stage3" in refused(workspace, "stage", "trian")


def test_an_unknown_recipe_lists_the_recipes(workspace):
    assert "open_sora_1_2" in refused(workspace, "recipes", "use", "open_sora")


def test_a_recipe_does_not_overwrite_changed_parameters(workspace):
    set_values(workspace / "params.yaml", {"split.threshold": 11.0})
    assert "--force" in refused(workspace, "recipes", "use", "demo")
    assert reelforge(workspace, "recipes", "use", "demo", "--force").returncode == 0


def test_a_folder_that_is_no_clone(tmp_path):
    result = reelforge(tmp_path, "run", PYTHONPATH=str(Path(__file__).parents[2]))
    assert result.returncode == 2
    assert "clone" in result.stderr


def test_help_shows_where_to_start(workspace):
    said = reelforge(workspace, "--help").stdout
    assert "reelforge demo" in said
    assert "--videos" in said


def test_recipes_are_listed_with_what_they_are(workspace):
    said = reelforge(workspace, "recipes", "list").stdout
    assert "demo" in said and "open_sora_1_2" in said
