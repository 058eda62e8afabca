"""Camera motion and motion scores against the truth of rendered scenes; seeds of their own."""

from itertools import pairwise

import numpy as np
import pytest
from scipy.stats import spearmanr

from components.data.camera import CameraMotion, camera_label
from components.data.motion import MotionMeter, motion_of
from components.data.synthetic import BACKGROUNDS, COLOURS, MOTIONS, SHAPES, SceneSpec, render_scene

LABELS = {
    "still": "static",
    "pans left": "pan_left",
    "pans right": "pan_right",
    "tilts up": "tilt_up",
    "tilts down": "tilt_down",
    "zooms in": "zoom_in",
    "zooms out": "zoom_out",
}


def flows(spec):
    frames = render_scene(spec).max(axis=-1)
    return MotionMeter().flows([(one, other, 1 / spec.fps) for one, other in pairwise(frames)])


def scene(rng, **known):
    given = {
        "colour": COLOURS[rng.integers(len(COLOURS))],
        "shape": SHAPES[rng.integers(len(SHAPES))],
        "motion": MOTIONS[rng.integers(len(MOTIONS))],
        "background": BACKGROUNDS[rng.integers(len(BACKGROUNDS))],
        "camera": "still",
        "height": 54,
        "width": 96,
        "frames": 6,
        "seed": int(rng.integers(2**40)),
    }
    return SceneSpec(**{**given, **known})


def test_what_the_camera_does_is_told():
    rng = np.random.default_rng(900)
    scenes = [
        scene(rng, camera=camera, camera_speed=float(rng.uniform(0.6, 2.5)))
        for camera in LABELS
        for _ in range(14)
    ]
    right = [camera_label(flows(spec)) == LABELS[spec.camera] for spec in scenes]
    assert np.mean(right) >= 0.95


def test_the_motion_score_ranks_by_true_speed():
    rng = np.random.default_rng(901)
    speeds = rng.uniform(0.04, 0.7, 40)
    found = [motion_of(flows(scene(rng, speed=float(speed)))).objects for speed in speeds]
    assert spearmanr(speeds, found).statistic >= 0.95


@pytest.mark.parametrize("camera", ["pans right", "tilts up", "zooms in"])
def test_the_camera_score_ranks_by_true_speed(camera):
    rng = np.random.default_rng(902)
    speeds = rng.uniform(0.3, 3.0, 20)
    found = [motion_of(flows(scene(rng, camera=camera, camera_speed=float(each)))).camera for each in speeds]
    assert spearmanr(speeds, found).statistic >= 0.95


def test_a_clip_without_two_frames_has_no_label():
    assert camera_label([]) is CameraMotion.UNDETERMINED
