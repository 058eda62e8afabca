"""`reelforge data show` and `remove`, as typed, in a workspace with a few curated files."""

import json
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from components.data.takedowns import TAKEDOWNS, read_takedowns
from components.errors import UserError
from flows.cli import data_items
from flows.cli.data import app

sys.path.insert(0, str(Path(__file__).parents[1] / "components" / "data"))

from footage_workspace import make_root, run_stage
from video_files import counter_frame, write_video


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = make_root(
        tmp_path_factory.mktemp("items"), split__threshold=200.0, split__gradual=False, filter__min_motion=0.0
    )
    videos = root / "data" / "footage"
    videos.mkdir(parents=True)
    for index in range(3):
        write_video(videos / f"{index}.mp4", [counter_frame((60 * index + i) % 256) for i in range(40)])
    for stage in ("ingest", "split", "score", "filter", "caption", "dedup"):
        run_stage(root, stage)
    return root


@pytest.fixture
def call(root, monkeypatch):
    monkeypatch.setattr(data_items, "ROOT", root)

    def run(*arguments):
        result = CliRunner().invoke(app, list(arguments))
        if isinstance(result.exception, UserError):
            raise result.exception
        assert result.exit_code == 0, result.output
        return result.output

    return run


def test_a_file_and_its_clip_are_shown_with_all_that_is_known(call):
    of_file = json.loads(call("show", "1.mp4", "--json"))
    (clip,) = of_file["clips"]
    of_clip = json.loads(call("show", clip, "--json"))
    assert of_clip["clip"]["source"] == of_file["source"]["source"] == "1.mp4"
    assert of_clip["versions"] == of_file["versions"]
    said = call("show", clip)
    for word in ("1.mp4", "sharpness", "caption", "licence", "data versions", "dedup-", "models"):
        assert word in said


def test_a_removal_is_written_down_and_says_what_holds_it(call, root):
    said = call("remove", "--source", "2.mp4", "--reason", "asked for")
    assert "1 clips of the current data set" in said
    assert "dedup-" in said
    (entry,) = read_takedowns(root / TAKEDOWNS)
    assert (entry.kind, entry.value, entry.reason) == ("source", "2.mp4", "asked for")
    assert "has this already" in call("remove", "--source", "2.mp4", "--reason", "asked for")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("show", "nothing"), "no clip and no file"),
        (("remove", "--reason", "x"), "name one of --clip, --source or --licence"),
        (("remove", "--clip", "a", "--source", "b", "--reason", "x"), "name one of"),
        (("remove", "--source", "1.mp4"), "say why"),
    ],
)
def test_what_cannot_be_done_says_the_way_out(call, arguments, message):
    with pytest.raises(UserError, match=message):
        call(*arguments)
