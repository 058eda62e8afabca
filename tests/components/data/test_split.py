import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from footage_workspace import ROOT, SCENE, make_root, run_stage
from video_files import write_video

from components.data import store
from components.data.frames import read_frames
from components.data.scenes import Scene, detect_scenes, find_cuts
from components.data.split import cut_scene
from components.data.synthetic import render_scene
from components.errors import DataQualityError
from components.params import Params

CONFIG = Params.load(ROOT / "params.yaml").split
SPEC = replace(SCENE, camera="pans left", frames=24, seed=1)


def clips(root):
    return store.read(root, root / "artifacts" / "clips" / "split.json").to_pylist()


def sidecar(root, source):
    return json.loads((root / "data" / "footage" / source).with_suffix(".json").read_text())


def scene(seconds, fps=8.0, start=0.0):
    times = tuple(start + index / fps for index in range(round(seconds * fps)))
    return Scene(times, start + seconds)


def test_clips_are_the_scenes_that_were_put_together(curated):
    """F1 of the cuts is 1: every boundary of the sidecars is found at its frame, and no other."""
    rows = clips(curated.root)
    for source in {row["source"] for row in rows}:
        found = sorted((row["start_seconds"], row["end_seconds"]) for row in rows if row["source"] == source)
        truth = [(one["start"], one["end"]) for one in sidecar(curated.root, source)["scenes"]]
        np.testing.assert_allclose(found, truth, atol=1e-6)


def test_no_frame_of_a_neighbouring_scene_is_in_a_clip(curated):
    """The background of every frame of a clip is that of its own scene: its border changes slowly only."""
    for row in clips(curated.root)[:6]:
        size = {"height": row["height"], "width": row["width"]}
        path = curated.videos / row["source"]
        frames = read_frames(path, row["start_seconds"], row["end_seconds"], fps=row["fps"], **size)
        assert len(frames) == row["frames"]
        tone = np.median(frames, axis=(1, 2))  # (T, 3)
        assert np.abs(np.diff(tone, axis=0)).max() < 12


def test_a_clip_inherits_the_facts_of_its_source(curated):
    sources = store.read(curated.root, curated.root / "artifacts" / "clips" / "ingest.json").to_pylist()
    facts = {row["source"]: row for row in sources}
    for row in clips(curated.root):
        source = facts[row["source"]]
        assert row["source_digest"] == source["digest"]
        assert not source["reasons"]
        assert {key: row[key] for key in ("codec", "licence", "split", "width", "height", "fps")} == {
            key: source[key] for key in ("codec", "licence", "split", "width", "height", "fps")
        }


def test_ids_are_unique_and_the_same_in_a_second_run(curated):
    path = curated.root / "artifacts" / "clips" / "split.json"
    before = path.read_bytes()
    ids = [row["clip_id"] for row in clips(curated.root)]
    assert len(set(ids)) == len(ids)
    assert {len(each) for each in ids} == {16}
    run_stage(curated.root, "split")
    assert path.read_bytes() == before


def test_counts_balance(curated):
    counts = curated.reports["split"].counts
    assert counts["pieces"] == counts["clips"] + counts["rejected"]
    assert counts["scenes"] == counts["pieces"] == 27  # nine readable files of three scenes
    assert counts["files"] == 9


def with_flash(frames, index):
    flashed = frames.copy()
    flashed[index] = np.clip(frames[index].astype(int) + 140, 0, 255).astype(np.uint8)
    return flashed


def test_a_flash_is_no_cut_and_hides_none(tmp_path):
    one = render_scene(SPEC)
    other = render_scene(replace(SPEC, background="dark slate", shape="square", seed=2))
    frames = [*with_flash(one, 10), *with_flash(other, 4)]
    path = write_video(tmp_path / "flash.mp4", frames, fps=24)
    found = detect_scenes(path, CONFIG)
    assert [len(scene.times) for scene in found] == [24, 24]
    without_test = CONFIG.model_copy(update={"flash_ratio": 1e-9})
    assert len(detect_scenes(path, without_test)) > 2  # the flashes are strong enough to need the test


def test_a_single_scene_is_one_clip(tmp_path):
    path = write_video(tmp_path / "single.mp4", list(render_scene(SPEC)), fps=8)
    (found,) = detect_scenes(path, CONFIG)
    assert (found.start, found.end) == pytest.approx((0.0, 3.0))


def test_a_video_of_one_frame_is_one_scene(tmp_path):
    path = write_video(tmp_path / "one.mp4", list(render_scene(SPEC)[:1]), fps=8)
    assert [len(scene.times) for scene in detect_scenes(path, CONFIG)] == [1]


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ([1, 1, 1, 40, 1, 1, 1], [3]),
        ([1, 1, 1, 9, 1, 1, 1], []),  # below the threshold
        ([20, 22, 21, 40, 20, 21, 22], []),  # a restless scene: not three times its surroundings
        ([40, 1, 1, 1], [0]),
        ([1, 1, 1, 40], [3]),
        ([], []),
    ],
)
def test_a_cut_stands_out_from_its_surroundings(steps, expected):
    leaps = [max(pair) for pair in pairwise(steps)]  # after a cut the picture stays another one
    assert find_cuts(steps, leaps, CONFIG) == expected


@pytest.mark.parametrize("seconds", [1.5, 16.0, 17.0, 31.9, 32.0, 100.0])
def test_pieces_cover_a_scene_and_none_is_too_long(seconds):
    whole = scene(seconds)
    pieces = cut_scene(whole, CONFIG)
    assert pieces[0].start == whole.start
    assert pieces[-1].end == pytest.approx(whole.end)
    assert all(one.end == other.start for one, other in pairwise(pieces))
    assert sum(piece.frames for piece in pieces) == len(whole.times)
    assert all(piece.end - piece.start <= CONFIG.max_seconds + 1 / 8 for piece in pieces)
    assert len(pieces) == np.ceil(seconds / CONFIG.max_seconds)


def test_pieces_are_not_made_too_short_when_the_limits_are_close():
    config = CONFIG.model_copy(update={"min_seconds": 10.0})
    pieces = cut_scene(scene(17.0), config)
    assert [piece.end - piece.start for piece in pieces] == pytest.approx([16.0, 1.0])


def test_short_scenes_are_dropped_and_counted(tmp_path, curated):
    root = make_root(tmp_path, split__min_seconds=1.75)
    (root / "data").mkdir()
    (root / "data" / "footage").symlink_to(curated.videos)
    run_stage(root, "ingest")
    report = run_stage(root, "split")
    long_enough = [row for row in clips(curated.root) if row["end_seconds"] - row["start_seconds"] >= 1.75]
    assert 0 < len(long_enough) == report.counts["clips"] < 27
    assert report.reasons == {"too_short": 27 - len(long_enough)}


def test_no_clip_at_all_fails_the_stage_by_name(tmp_path, curated):
    root = make_root(tmp_path, split__min_seconds=5.0)
    (root / "data").mkdir()
    (root / "data" / "footage").symlink_to(curated.videos)
    run_stage(root, "ingest")
    with pytest.raises(
        DataQualityError, match=r"split: no clip of 5 s or more in 9 files: \{'too_short': 27\}"
    ):
        run_stage(root, "split")


def test_a_file_that_went_bad_after_ingest_costs_itself_only(tmp_path):
    root = make_root(tmp_path)
    videos = root / "data" / "footage"
    videos.mkdir(parents=True)
    for name, seed in (("a", 1), ("b", 2)):
        write_video(videos / f"{name}.mp4", list(render_scene(replace(SPEC, seed=seed))), fps=8)
    run_stage(root, "ingest")
    (videos / "a.mp4").write_bytes(b"no longer a video")
    report = run_stage(root, "split")
    assert report.counts["files_failed"] == 1
    assert report.reasons == {"unreadable": 1}
    assert [row["source"] for row in clips(root)] == ["b.mp4"]


@pytest.mark.parametrize(("name", "scenes"), [("nasa_13013.mp4", 3), ("nasa_h265.mp4", 1)])
def test_shots_of_real_footage_are_found(name, scenes, real_footage):
    found = detect_scenes(real_footage(name), CONFIG)
    assert len(found) == scenes  # counted by eye
    assert all(one.end <= other.start for one, other in pairwise(found))
    if scenes == 3:  # the second shot comes up by degrees behind the first, in frames 150 to 179; then a cut
        assert [(round(one.start * 29.97), round(one.end * 29.97)) for one in found[:2]] == [
            (0, 150),
            (180, 240),
        ]
