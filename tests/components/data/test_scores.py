import json
import shutil
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise

import cv2
import numpy as np
import pytest
from footage_workspace import ROOT, SCENE, make_root, run_stage

from components.data import store
from components.data.config import Scorer
from components.data.looks import Job
from components.data.motion import MotionMeter, camera_flow
from components.data.score import COLUMNS
from components.data.scorers import score_clip
from components.data.sharpness import sharpness
from components.data.synthetic import CAMERAS, render_scene
from components.data.text_overlay import text_share
from components.errors import DataQualityError
from components.params import Params

PARAMS = Params.load(ROOT / "params.yaml")
SPEC = replace(SCENE, colour="green", shape="square", motion="right", background="dry clay", frames=6, seed=8)


def scores(root, name="score"):
    return store.read(root, root / "artifacts" / "clips" / f"{name}.json").to_pylist()


def kind_of(curated, row):
    return json.loads((curated.videos / row["source"]).with_suffix(".json").read_text())["kind"]


def grey(frames):
    return [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames]


def measured(spec):
    frames = render_scene(spec).max(axis=-1)
    return MotionMeter().measure([(one, other, 1 / 8) for one, other in pairwise(frames)])


def test_the_default_thresholds_find_the_static_and_the_text_files_and_no_other(curated):
    limits = PARAMS.filter
    for row in scores(curated.root):
        kind = kind_of(curated, row)
        assert (row["motion"] < limits.min_motion) == (kind == "static"), (kind, row["motion"])
        assert (row["text_share"] > limits.max_text_share) == (kind == "text"), (kind, row["text_share"])
        assert row["sharpness"] > limits.min_sharpness
        assert limits.min_brightness < row["brightness"] < limits.max_brightness


def test_a_second_run_gives_the_same_scores(curated):
    path = curated.root / "artifacts" / "clips" / "score.json"
    before = path.read_bytes()
    run_stage(curated.root, "score")
    assert path.read_bytes() == before


@pytest.mark.parametrize("camera", CAMERAS)
def test_a_camera_that_moves_over_a_still_scene_is_no_motion_of_objects(camera):
    moving = measured(replace(SPEC, camera=camera))
    resting = measured(replace(SPEC, camera=camera, motion=None))
    assert resting.objects < 0.25 * moving.objects
    assert PARAMS.filter.min_motion < moving.objects
    if camera.startswith("pans"):
        assert resting.camera == pytest.approx(0.1, rel=0.15)  # shares of the width per second, as rendered
    if camera == "still":
        assert resting.camera < 0.003
        assert resting.objects < PARAMS.filter.min_motion


def test_object_motion_is_in_widths_per_second():
    found = measured(replace(SPEC, frames=9))
    path = [
        np.argwhere(frame.max(-1).astype(int) - frame.min(-1) > 100)[:, 1].mean()
        for frame in render_scene(replace(SPEC, frames=9))
    ]
    speed = (path[-1] - path[0]) / 96  # in the second between the first and the last of nine frames
    assert found.objects == pytest.approx(speed, rel=0.3)


def test_an_object_as_bright_as_its_background_is_seen():
    spec = replace(SPEC, colour="red", background="soft moss")
    frames = grey(render_scene(spec))
    assert abs(np.median(frames[0]) - frames[0][render_scene(spec)[0, ..., 0] > 180].mean()) < 25
    assert measured(spec).objects > 2 * PARAMS.filter.min_motion


def test_camera_flow_is_the_similarity_that_most_of_the_picture_follows():
    y, x = np.mgrid[0:64, 0:96].astype(np.float32)
    expected = np.stack([0.02 * x - 0.01 * y + 1.5, 0.01 * x + 0.02 * y - 0.5], axis=-1).astype(np.float32)
    flow = expected.copy()
    flow[10:35, 20:50] += (6.0, -3.0)  # something moves on its own
    np.testing.assert_allclose(camera_flow(flow), expected, atol=0.02)


def test_a_single_picture_has_no_motion():
    motion = MotionMeter().measure([])
    assert (motion.objects, motion.camera) == (0.0, 0.0)


@pytest.mark.parametrize("text", ["HELLO WORLD", "Subscribe now", "12:45 LIVE"])
@pytest.mark.parametrize("colour", [(250, 250, 250), (5, 5, 5)], ids=["light", "dark"])
def test_text_over_moving_pictures_is_found_where_it_is(text, colour):
    frames = render_scene(replace(SPEC, camera="pans left", height=90, width=160, background="worn concrete"))
    assert text_share(grey(frames)) == 0
    for frame in frames:
        cv2.putText(frame, text, (10, 75), cv2.FONT_HERSHEY_DUPLEX, 0.6, colour, 1, cv2.LINE_AA)
    written = text_share(grey(frames))
    assert 0.02 < written < 0.4


def test_what_moves_is_no_text():
    frames = np.full((9, 96, 96), 60, dtype=np.uint8)
    for index, frame in enumerate(frames):  # bright bars that wander, as a fence behind a pan
        for bar in range(5):
            left = (12 * bar + 3 * index) % 90
            frame[40:55, left : left + 4] = 230
    assert text_share(list(frames)) == 0


def test_blur_lowers_sharpness():
    frame = grey(render_scene(SPEC))[0]
    levels = [sharpness(cv2.GaussianBlur(frame, (0, 0), sigma)) for sigma in (0.3, 1.0, 3.0)]
    assert levels == sorted(levels, reverse=True)
    assert sharpness(np.full((64, 64), 90, dtype=np.uint8)) == 0


def test_brightness_is_the_mean_share_of_white(curated):
    row = scores(curated.root)[0]
    config = PARAMS.score.model_copy(update={"motion": Scorer.DISABLE, "text": Scorer.DISABLE})
    job = Job(curated.videos / row["source"], row["start_seconds"], row["end_seconds"], row["fps"], config)
    assert score_clip(job)["brightness"] == pytest.approx(row["brightness"], abs=1e-6)
    assert 0 < row["brightness"] < 1


def test_a_disabled_scorer_leaves_its_columns_empty_and_modes_are_handed_on(tmp_path, curated):
    root = make_root(tmp_path, score__motion="disable", score__text="score-only")
    (root / "data").mkdir()
    (root / "data" / "footage").symlink_to(curated.videos)
    for stage in ("ingest", "split", "score"):
        run_stage(root, stage)
    rows = scores(root)
    assert {row["motion"] for row in rows} == {row["camera_motion"] for row in rows} == {None}
    reference = {row["clip_id"]: row for row in scores(curated.root)}
    for row in rows:
        assert row["text_share"] == reference[row["clip_id"]]["text_share"]
    notes = store.Manifest.read(root / "artifacts" / "clips" / "score.json").notes["score"]
    assert notes == {"motion": "disable", "sharpness": "enable", "text": "score-only", "brightness": "enable"}


def test_a_clip_that_cannot_be_read_any_more_has_no_scores(tmp_path, curated):
    root = make_root(tmp_path)
    videos = root / "data" / "footage"
    videos.mkdir(parents=True)
    for path in sorted(curated.videos.glob("*.mp4"))[:3]:
        (videos / path.name).write_bytes(path.read_bytes())
    for stage in ("ingest", "split"):
        run_stage(root, stage)
    broken = sorted(videos.glob("*.mp4"))[0]
    broken.write_bytes(b"no longer a video")
    report = run_stage(root, "score")
    assert report.counts["failed"] == report.reasons["unreadable"] == 3
    assert report.counts["clips"] == report.counts["scored"] + 3
    for row in scores(root):
        assert all((row[name] is None) == (row["source"] == broken.name) for name in COLUMNS)
    shutil.rmtree(root / "store" / "items")  # else the scores of the other clips are known
    for path in videos.glob("*.mp4"):
        path.write_bytes(b"no longer a video")
    with pytest.raises(DataQualityError, match="score: none of"):
        run_stage(root, "score")


def test_real_footage_is_scored(real_footage):
    found = score_clip(Job(real_footage("nasa_13013.mp4"), 8.008, 13.013, 29.97, PARAMS.score))
    assert set(found) == set(COLUMNS)
    assert 0 < found["motion"] < 0.06  # a crane that hardly moves before a dark hall
    assert found["brightness"] < 0.2


def test_workers_do_not_import_torch():
    code = (
        "import sys, components.data.score, components.data.split, components.data.ingest, components.data.footage;"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
