"""A clip that training could not use is out of the next data set once a person has said so."""

import shutil

import pytest
from footage_workspace import make_root, run_stage
from video_files import counter_frame, write_video

from components.data import store
from components.data.quarantine import quarantine, reported_clips
from components.data.takedowns import QUARANTINE, read_takedowns
from components.report import Report
from components.training.incidents import Incident, IncidentFile

WHOLE = {"split__threshold": 200.0, "split__gradual": False}  # each file is one clip


@pytest.fixture(scope="module")
def pristine(tmp_path_factory):
    loose = {"filter__min_motion": 0.0, "filter__min_sharpness": 0.0}
    root = make_root(tmp_path_factory.mktemp("quarantine"), **WHOLE, **loose)
    videos = root / "data" / "footage"
    videos.mkdir(parents=True)
    for index in range(3):
        write_video(videos / f"{index}.mp4", [counter_frame((40 * index + i) % 256) for i in range(50)])
    for stage in ("ingest", "split", "score", "filter"):
        run_stage(root, stage)
    return root


@pytest.fixture
def root(pristine, tmp_path):
    return shutil.copytree(pristine, tmp_path / "copy")


def clips(root):
    return {
        row["clip_id"]: row["reasons"]
        for row in store.read(root, root / "artifacts/clips/filter.json").to_pylist()
    }


def report_of(root, *names):
    rows = [{"clip": name, "reason": "step 7: the loss is not finite"} for name in names]
    Report("train@stage1", quarantine=rows).write(root / "reports/train@stage1.json")


def test_clips_of_a_report_are_left_out_with_a_reason_of_their_own(root):
    bad, *good = sorted(clips(root))
    report_of(root, bad)
    assert reported_clips(root) == {bad: "train@stage1, step 7: the loss is not finite"}
    new, unknown = quarantine(root, reported_clips(root))
    assert ([entry.value for entry in new], unknown) == ([bad], [])
    report = run_stage(root, "filter")
    assert report.reasons == {"quarantined": 1}
    assert clips(root) == {bad: ["quarantined"], **{name: [] for name in good}}


def test_adding_twice_changes_nothing_and_unknown_clips_are_told(root):
    bad = min(clips(root))
    report_of(root, bad, "of-older-data")
    _, unknown = quarantine(root, reported_clips(root))
    assert unknown == ["of-older-data"]
    assert quarantine(root, reported_clips(root))[0] == []
    assert len(read_takedowns(root / QUARANTINE)) == 1


def test_a_run_that_stopped_is_heard_of_before_it_has_a_report(root):
    bad = min(clips(root))
    incident = Incident(7, "the loss is not finite", None, None, 0.3, 0.4, (bad,), (), 6)
    IncidentFile(root / "checkpoints/train@stage1", "f").append(incident)
    assert reported_clips(root) == {bad: "train@stage1, step 7: the loss is not finite"}
