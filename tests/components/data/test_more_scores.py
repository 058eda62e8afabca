"""Scorers that need no weights: black, frozen, camera, and text at a size of its own."""

import json

import cv2
import numpy as np
import pytest
from footage_workspace import ROOT, make_root, run_stage
from textured_films import shot
from video_files import write_video

from components.data import store
from components.data.brightness import black_share
from components.data.config import Scorer
from components.data.frozen import frozen_share
from components.data.looks import Job
from components.data.scorers import SCORERS, columns_of, score_clip
from components.data.synthetic import BACKGROUNDS, CAMERAS, COLOURS, MOTIONS, SHAPES, SceneSpec, render_scene
from components.params import Params

CONFIG = Params.load(ROOT / "params.yaml").score
LIMIT = Params.load(ROOT / "params.yaml").filter.max_text_share
PHRASES = ("The quick brown fox", "LATEST RESULTS: 3-1", "what did you say?", "Chapter 7", "www.example.org")
FONTS = (
    cv2.FONT_HERSHEY_SIMPLEX,
    cv2.FONT_HERSHEY_DUPLEX,
    cv2.FONT_HERSHEY_COMPLEX,
    cv2.FONT_HERSHEY_TRIPLEX,
)


def only(name):
    off = dict.fromkeys(SCORERS, Scorer.DISABLE)
    return CONFIG.model_copy(update={**off, name: Scorer.ENABLE})


def score(path, seconds, name, **more):
    config = only(name).model_copy(update=more)
    return score_clip(Job(path, 0.0, seconds, 24.0, config))


def picture(rng):
    return rng.integers(60, 200, (64, 64, 3), dtype=np.uint8)


def test_black_share_is_the_share_of_black_frames(tmp_path):
    rng = np.random.default_rng(20)
    frames = [np.zeros((64, 64, 3), np.uint8)] * 48 + [picture(rng)] * 24
    path = write_video(tmp_path / "black.mp4", frames, fps=24)
    assert score(path, 3.0, "black")["black_share"] == pytest.approx(2 / 3, abs=0.12)
    night = [np.full((64, 64), 20, np.uint8)]
    assert black_share(night) == 0


def test_frozen_share_is_the_share_of_frames_that_repeat(tmp_path):
    rng = np.random.default_rng(21)
    still = picture(rng)
    frames = [still] * 36 + [np.roll(still, 2 * index, axis=1) for index in range(36)]
    path = write_video(tmp_path / "frozen.mp4", frames, fps=24)
    assert score(path, 3.0, "frozen")["frozen_share"] == pytest.approx(0.5, abs=0.12)
    assert frozen_share([]) == 0


def written(frames, rng):
    """Frames with a line of text of the usual sizes: from 5.5 % of the height, a subtitle, to 14 %, a title."""
    height, width = frames.shape[1:3]
    text, font = PHRASES[rng.integers(len(PHRASES))], FONTS[rng.integers(len(FONTS))]
    tall = rng.uniform(0.055, 0.14) * height
    thickness = max(1, round(tall / 9))
    (wide, high), _ = cv2.getTextSize(text, font, 1.0, thickness)
    size = min(tall / high, 0.9 * width / wide)
    origin = (
        round(rng.uniform(0.04, 0.96 - size * wide / width) * width),
        round(rng.uniform(0.2, 0.92) * height),
    )
    colour = (250, 250, 250) if rng.random() < 0.7 else (12, 12, 12)
    edge = (10, 10, 10) if colour[0] > 100 else (245, 245, 245)
    for frame in frames:
        cv2.putText(frame, text, origin, font, size, edge, thickness + 3, cv2.LINE_AA)
        cv2.putText(frame, text, origin, font, size, colour, thickness, cv2.LINE_AA)
    return frames


def scene(rng):
    return SceneSpec(
        colour=COLOURS[rng.integers(4)],
        shape=SHAPES[rng.integers(3)],
        motion=MOTIONS[rng.integers(4)],
        background=BACKGROUNDS[rng.integers(6)],
        camera=CAMERAS[rng.integers(5)],
        height=360,
        width=640,
        frames=12,
        seed=int(rng.integers(2**40)),
        fps=12,
    )


def textured(rng):
    """Fine texture with discs, moving or not: strokes everywhere, and none of them a letter."""
    filmed = shot(rng, 12, 12, size=(180, 320))
    return np.clip(filmed, 0, 255).astype(np.uint8)


def test_text_of_subtitle_size_is_found_and_scenes_are_not_taken_for_it(tmp_path):
    """Seeds of its own: thresholds were settled on seeds 60 and 61."""
    rng = np.random.default_rng(22)
    shares = {True: [], False: []}
    for index in range(64):
        frames = render_scene(scene(rng)) if index % 4 < 2 else textured(rng)
        has_text = index % 2 == 0
        path = write_video(
            tmp_path / f"{index}.mp4", list(written(frames, rng) if has_text else frames), fps=12
        )
        config = only("text").model_copy(update={"text_width": 320, "frames": 5})
        shares[has_text].append(score_clip(Job(path, 0.0, 1.0, 12.0, config))["text_share"])
    recipe = Params.load(ROOT / "recipes/open_sora_1_2.yaml")
    limit = recipe.filter.max_text_share
    assert recipe.score.text_width == 320
    assert np.mean(np.array(shares[True]) > limit) >= 0.95
    assert np.mean(np.array(shares[False]) > limit) <= 0.05


def test_scores_appear_as_columns_when_they_are_asked_for(tmp_path, curated):
    root = make_root(tmp_path, score__camera="score-only", score__black="enable", score__frozen="enable")
    (root / "data").mkdir()
    (root / "data" / "footage").symlink_to(curated.videos)
    for stage in ("ingest", "split", "score"):
        run_stage(root, stage)
    rows = store.read(root, root / "artifacts" / "clips" / "score.json").to_pylist()
    plain = store.read(curated.root, curated.root / "artifacts" / "clips" / "score.json").to_pylist()
    assert set(rows[0]) - set(plain[0]) == {"camera_label", "black_share", "frozen_share"}
    assert [row["motion"] for row in rows] == [row["motion"] for row in plain]
    names = {
        "still": "static",
        "pans left": "pan_left",
        "pans right": "pan_right",
        "zooms in": "zoom_in",
        "zooms out": "zoom_out",
    }
    truth = {
        (path.with_suffix(".mp4").name, round(one["start"], 3)): names[one["camera"]]
        for path in curated.videos.glob("*.json")
        for one in json.loads(path.read_text())["scenes"]
    }
    right = [row["camera_label"] == truth[row["source"], round(row["start_seconds"], 3)] for row in rows]
    assert np.mean(right) >= 0.95


def test_the_default_asks_for_the_scores_it_always_had():
    assert list(columns_of(CONFIG)) == ["motion", "camera_motion", "sharpness", "text_share", "brightness"]
