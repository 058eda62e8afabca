"""The truth that sidecars tell about transitions and damage, checked on the decoded files."""

import itertools
import json

import av
import numpy as np
import pytest
from effect_files import make
from footage_workspace import make_root, run_stage

from components.data.footage_effects import Kind
from components.errors import UserError

EFFECTS = {
    "footage__fade_files": 1,
    "footage__dissolve_files": 1,
    "footage__flash_files": 1,
    "footage__black_files": 1,
    "footage__near_duplicate_files": 1,
    "footage__corrupted_files": 1,
    "footage__transition_seconds": 0.375,
}


def frames_of(path):
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]).astype(int)


@pytest.mark.parametrize("kind", [Kind.PLAIN, Kind.FADE, Kind.DISSOLVE, Kind.BLACK, Kind.WHIP])
def test_scenes_and_transitions_cover_the_file(tmp_path, kind):
    (made,) = make(tmp_path, kind, files=1, seed=520, scenes=3)
    scenes, events = made.plan.layout
    covered = sorted(
        (one.start, one.end) for one in (*scenes, *(event for event in events if kind is not Kind.WHIP))
    )
    assert covered[0][0] == 0
    assert all(one[1] == other[0] for one, other in itertools.pairwise(covered))
    assert covered[-1][1] == len(frames_of(made.path))


def test_a_dissolve_goes_evenly_from_one_scene_to_the_next(tmp_path):
    (made,) = make(tmp_path, Kind.DISSOLVE, files=1, seed=521, scenes=2)
    (event,) = made.plan.layout[1]
    frames = frames_of(made.path)
    before, after = frames[event.start - 1], frames[event.end]
    told = np.abs(after - before) > 40
    shares = [
        np.median((frame - before)[told] / (after - before)[told])
        for frame in frames[event.start : event.end]
    ]
    np.testing.assert_allclose(shares, np.arange(1, 13) / 13, atol=0.06)


def test_a_fade_ends_in_the_dark_and_black_is_black(tmp_path):
    (fade,) = make(tmp_path, Kind.FADE, files=1, seed=522, scenes=2)
    levels = frames_of(fade.path).mean(axis=(1, 2, 3))
    for event in fade.plan.layout[1]:
        slope = np.diff(levels[event.start : event.end])
        assert (slope > 0).all() if event.what == "fade_in" else (slope < 0).all()
    (black,) = make(tmp_path, Kind.BLACK, files=1, seed=523, scenes=2)
    (event,) = black.plan.layout[1]
    assert frames_of(black.path)[event.start + 1 : event.end].max() < 16


def test_a_run_with_effects_writes_their_truth_and_the_report_counts_them(tmp_path):
    root = make_root(tmp_path, footage__files=16, **EFFECTS)
    report = run_stage(root, "footage")
    sidecars = {
        path.stem: json.loads(path.read_text()) for path in (root / "data" / "footage").glob("*.json")
    }
    kinds = [one["kind"] for one in sidecars.values()]
    for name in ("fade", "dissolve", "flash", "black", "near_duplicate", "corrupted"):
        assert kinds.count(name) == report.counts[f"files_{name}"] == 1
    known = {one["kind"]: one for one in sidecars.values()}
    assert {event["kind"] for event in known["dissolve"]["transitions"]} == {"dissolve"}
    assert len(known["flash"]["moments"]) == 3
    copy = known["near_duplicate"]
    original = sidecars[copy["duplicate_of"].removesuffix(".mp4")]
    assert copy["scenes"] == original["scenes"]
    assert all(
        "transitions" not in one for one in sidecars.values() if one["kind"] in ("plain", "text", "static")
    )


def test_scenes_too_short_for_their_transitions_are_refused(tmp_path):
    root = make_root(tmp_path, footage__files=16, **{**EFFECTS, "footage__transition_seconds": 1.0})
    with pytest.raises(UserError, match=r"too short for footage\.transition_seconds"):
        run_stage(root, "footage")


def test_an_exact_duplicate_has_the_bytes_of_another_file_and_ingest_says_so(tmp_path):
    root = make_root(tmp_path, footage__files=9, footage__duplicate_files=1)
    run_stage(root, "footage")
    folder = root / "data" / "footage"
    sidecars = {path: json.loads(path.read_text()) for path in folder.glob("*.json")}
    (copy,) = (path for path, known in sidecars.items() if known["kind"] == "duplicate")
    original = folder / sidecars[copy]["duplicate_of"]
    assert copy.with_suffix(".mp4").read_bytes() == original.read_bytes()
    assert run_stage(root, "ingest").reasons["exact_duplicate"] == 1
