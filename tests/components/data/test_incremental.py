"""Runs that come after a run: what is known is not found out again, and the tables are those of one single run."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from footage_workspace import make_root, run_stage
from video_files import counter_frame, write_video

from components.data.config import ScoreConfig
from components.data.score_items import PARAMETERS, WEIGHTS, only, version_of
from components.data.scorers import SCORERS
from components.data.split import work_of
from components.params import Params

ROOT = Path(__file__).parents[3]
CHAIN = ("ingest", "split", "score", "filter")
FILES = 24
WHOLE = {"split__threshold": 200.0, "split__gradual": False}  # each file is one clip


def make(folder, files=FILES, **dotted):
    root = make_root(folder, **WHOLE, **dotted)
    videos = root / "data" / "footage"
    videos.mkdir(parents=True)
    for index in range(files):
        write_clip(videos, index)
    return root


def write_clip(videos, index):
    frames = [counter_frame((7 * index + step) % 256) for step in range(40)]
    return write_video(videos / f"{index:02d}.mp4", frames)


def kept(root, name):
    """How many results of a piece of work were written, over all its versions."""
    return sum(len(path.read_bytes().splitlines()) for path in (root / "store/items" / name).rglob("*.jsonl"))


def manifests(root):
    return {stage: (root / f"artifacts/clips/{stage}.json").read_bytes() for stage in CHAIN}


def run_chain(root):
    for stage in CHAIN:
        run_stage(root, stage)
    return manifests(root)


def set_param(root, section, **values):
    path = root / "params.yaml"
    raw = Params.load(path).model_dump(mode="json")
    raw[section] |= values
    path.write_text(json.dumps(raw))  # JSON is YAML


@pytest.fixture(scope="module")
def once(tmp_path_factory):
    """A finished set, to be copied: (workspace, manifests)."""
    root = make(tmp_path_factory.mktemp("once"))
    return root, run_chain(root)


@pytest.fixture
def root(once, tmp_path):
    return Path(shutil.copytree(once[0], tmp_path / "copy"))  # copies keep the times of the files


def test_each_item_is_kept_once_by_each_piece_of_work(once):
    names = (
        "ingest",
        "digests",
        "split",
        "score/motion",
        "score/sharpness",
        "score/text",
        "score/brightness",
    )
    assert {name: kept(once[0], name) for name in names} == dict.fromkeys(names, FILES)


def test_a_run_over_a_finished_set_works_on_nothing_and_changes_nothing(once, root, monkeypatch):
    def refuse(*_args, **_kwargs):
        raise AssertionError("an item was worked on")

    monkeypatch.setattr("components.data.pool.ItemProcess", refuse)
    assert run_chain(root) == once[1]


def test_how_many_rows_are_in_memory_changes_nothing(once, root, monkeypatch):
    shutil.rmtree(root / "store")
    os.truncate(root / "data/footage/07.mp4", 0)
    whole = run_chain(root)
    shutil.rmtree(root / "store")
    monkeypatch.setattr("components.data.ingest.CHUNK", 9)
    monkeypatch.setattr("components.data.split.BATCH_ROWS", 5)
    monkeypatch.setattr("components.data.score.BATCH_ROWS", 7)
    assert run_chain(root) == whole != once[1]
    assert kept(root, "split") == kept(root, "score/text") == FILES - 1
    assert run_chain(root) == whole
    assert kept(root, "split") == kept(root, "score/text") == FILES - 1


def test_a_touched_file_is_hashed_and_not_looked_at_again(once, root):
    os.utime(root / "data/footage/03.mp4")
    assert run_chain(root) == once[1]
    assert kept(root, "ingest") == kept(root, "split") == FILES
    assert kept(root, "digests") == FILES + 1


def test_a_new_and_a_changed_file_are_all_that_is_worked_on(root):
    write_clip(root / "data/footage", FILES)
    write_video(root / "data/footage/05.mp4", [counter_frame(index) for index in range(200, 240)])
    found = run_chain(root)
    assert [kept(root, name) for name in ("ingest", "split", "score/motion")] == [FILES + 2] * 3
    shutil.rmtree(root / "store")
    assert run_chain(root) == found


def test_a_changed_scorer_is_computed_by_itself(root):
    set_param(root, "score", text_width=192)
    found = run_chain(root)
    assert kept(root, "score/text") == 2 * FILES
    for name in ("ingest", "split", "score/motion", "score/sharpness", "score/brightness"):
        assert kept(root, name) == FILES
    shutil.rmtree(root / "store")
    assert run_chain(root) == found


@pytest.mark.parametrize("scorer", WEIGHTS)
def test_other_weights_under_the_same_name_are_other_scores_of_that_scorer_alone(scorer, tmp_path):
    config = Params.load(ROOT / "params.yaml").score
    for parameter in WEIGHTS[scorer]:
        path = tmp_path / parameter / "model.bin" if parameter == "clip_weights" else tmp_path / parameter
        named = config.model_copy(update={parameter: str(tmp_path / parameter)})
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"first")
        before = {name: version_of(name, named) for name in SCORERS}
        path.write_bytes(b"other")
        after = {name: version_of(name, named) for name in SCORERS}
        changed = {name for name in SCORERS if before[name] != after[name]}
        assert changed == {name for name in WEIGHTS if parameter in WEIGHTS[name]}


def test_other_weights_of_the_shot_detector_are_another_split(tmp_path):
    config = Params.load(ROOT / "params.yaml").split
    named = config.model_copy(update={"detector": "transnetv2", "weights": "shots.pth"})
    versions = []
    for content in (b"first", b"other"):
        (tmp_path / "shots.pth").write_bytes(content)
        versions.append(work_of(named, tmp_path).version)
    assert versions[0] != versions[1]
    assert work_of(config, tmp_path).version["weights"] is None


def test_a_scorer_that_is_switched_on_later_is_computed_by_itself(root):
    set_param(root, "score", frozen="score-only", motion="score-only")
    run_chain(root)
    assert kept(root, "score/frozen") == kept(root, "score/motion") == FILES


def test_a_threshold_recomputes_nothing_but_the_filter(root):
    set_param(root, "filter", min_sharpness=3.0)
    for stage in CHAIN:
        run_stage(root, stage)
    assert kept(root, "score/sharpness") == FILES


def start(root, stage):
    environment = {**os.environ, "REELFORGE_TRACKING": "off", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "components", stage, "--root", str(root)]
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, start_new_session=True, stderr=subprocess.DEVNULL
    )


def test_killed_in_the_middle_the_next_run_goes_on_and_makes_the_same_tables(once, root):
    shutil.rmtree(root / "store")
    shutil.rmtree(root / "artifacts")
    for stage in CHAIN[:2]:
        run_stage(root, stage)
    process = start(root, "score")
    try:
        deadline = time.monotonic() + 60
        while kept(root, "score/text") < 5 and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    before = kept(root, "score/motion")
    assert before >= 5
    assert run_chain(root) == once[1]
    assert kept(root, "score/motion") <= FILES + 1  # one line may have been cut off


def test_every_parameter_of_the_scorers_belongs_to_one_or_is_known_to_change_nothing():
    """A new parameter that nobody lists would be answered with old scores."""
    listed = {name for names in (*PARAMETERS.values(), *WEIGHTS.values()) for name in names}
    switches = set(SCORERS)
    harmless = {"captions"}  # the captions themselves are part of what a score is kept under
    assert set(ScoreConfig.model_fields) == listed | switches | harmless
    assert set(PARAMETERS) == set(SCORERS)


@pytest.mark.parametrize("name", ["motion", "sharpness", "text", "brightness"])
def test_a_mode_does_not_decide_a_score_and_a_parameter_does(name):
    config = Params.load(ROOT / "params.yaml").score
    other = config.model_copy(update={name: "score-only"})
    assert version_of(name, config) == version_of(name, other)
    wider = config.model_copy(update={"analysis_width": 128})
    assert version_of(name, config) != version_of(name, wider)
    assert only(config, [name]).model_dump()[name] == config.model_dump()[name]
