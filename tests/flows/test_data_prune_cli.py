"""`reelforge data prune`, as typed: what it removes is what no run would have read."""

import json
import re
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from typer.testing import CliRunner

from components.data import store
from components.params import Params
from flows.cli import data_prune
from flows.cli.data import app

sys.path.insert(0, str(Path(__file__).parents[1] / "components" / "data"))

from footage_workspace import make_root, run_stage
from video_files import counter_frame, write_video

CHAIN = ("ingest", "split", "score", "filter", "caption", "dedup")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A workspace that was run with one parameter set, then with another one."""
    root = make_root(
        tmp_path_factory.mktemp("prune"), split__threshold=200.0, split__gradual=False, filter__min_motion=0.0
    )
    videos = root / "data" / "footage"
    videos.mkdir(parents=True)
    for index in range(3):
        write_video(videos / f"{index}.mp4", [counter_frame((60 * index + i) % 256) for i in range(40)])
    run_chain(root)
    (root / "first.yaml").write_text((root / "params.yaml").read_text())
    raw = Params.load(root / "params.yaml").model_dump(mode="json")
    raw["score"]["text_width"] = 128
    raw["split"]["max_seconds"] = 1.2
    (root / "params.yaml").write_text(json.dumps(raw))
    run_chain(root)
    return root


@pytest.fixture
def call(root, monkeypatch):
    monkeypatch.setattr(data_prune, "ROOT", root)

    def run(*arguments):
        result = CliRunner().invoke(app, ["prune", *arguments])
        assert result.exit_code == 0, result.output
        return result.output

    return run


def run_chain(root):
    for stage in CHAIN:
        run_stage(root, stage)


def manifests(root):
    return {stage: (root / f"artifacts/clips/{stage}.json").read_bytes() for stage in CHAIN}


def folders(root):
    return {path.parent.relative_to(root).as_posix() for path in root.glob("store/items/**/version.json")}


def test_without_yes_it_says_what_and_how_much_and_removes_nothing(root, call):
    before = files(root)
    said = call()
    assert re.search(r"results score/text  3 results of other code, weights or parameters", said)
    assert re.search(r"table clips  \d+ states that no manifest names \(.*score-", said)
    assert "Nothing was removed" in said
    assert files(root) == before
    assert re.search(r"results split  3 results", said)
    for other in ("ingest", "digests", "score/motion", "dedup"):
        assert f"results {other}" not in said


def test_results_of_a_parameter_set_that_is_named_are_kept(root, call):
    assert "results" not in call("--params", str(root / "first.yaml"))


def test_what_is_removed_is_not_missed_and_what_it_frees_is_what_it_said(root, call):
    made = manifests(root)
    kept = {json.loads(one)["tag"] for one in made.values()}
    before = size(root)
    promised = float(re.search(r"([\d.]+) MB in all", call())[1])
    call("--yes")
    assert before - size(root) >= 0.95e6 * promised - 1e5
    assert call().strip() == "nothing to remove"
    run_chain(root)
    assert manifests(root) == made
    for stage in CHAIN:
        assert store.is_stored(root, root / f"artifacts/clips/{stage}.json")
    assert len(kept) == len(CHAIN)
    assert len([one for one in folders(root) if "score/text" in one]) == 1


def test_states_in_a_store_of_several_clones_are_left_to_those_who_may_name_them(tmp_path, monkeypatch):
    clones = [make_root(tmp_path / name, runtime__store=str(tmp_path / "store")) for name in ("one", "two")]
    for number, clone in enumerate(clones):
        rows = pa.table({"clip_id": ["a", "b"], "seconds": [float(number), 2.0]})
        store.create(clone, "clips", rows, "split").write(clone / "artifacts/clips/split.json")
    monkeypatch.setattr(data_prune, "ROOT", clones[1])
    said = CliRunner().invoke(app, ["prune", "--yes"]).output
    assert "other clones may name their states" in said
    assert store.is_stored(clones[0], clones[0] / "artifacts/clips/split.json")
    assert "1 states" in CliRunner().invoke(app, ["prune", "--shared-store"]).output


def files(root):
    return sorted(path.relative_to(root).as_posix() for path in (root / "store").rglob("*") if path.is_file())


def size(root):
    return sum(path.stat().st_size for path in (root / "store").rglob("*") if path.is_file())
