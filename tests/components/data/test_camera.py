"""Camera motion and motion scores against the truth of rendered scenes; seeds of their own."""

from itertools import pairwise

import numpy as np
import pytest
from scipy.stats import spearmanr

from components.data.camera import CameraMotion, camera_label
from components.data.caption_suffix import with_suffix
from components.data.config import CaptionSuffix
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
    "pans left and tilts up": "pan_left+tilt_up",
    "pans right and tilts down": "pan_right+tilt_down",
    "pans left and zooms in": "pan_left+zoom_in",
    "tilts up and zooms out": "tilt_up+zoom_out",
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
    both = [told for told, spec in zip(right, scenes, strict=True) if " and " in spec.camera]
    assert np.mean(both) >= 0.95


def moving(shift, growth=0.0):
    """Flow (54, 96, 2) of a picture that goes by `shift` pixels and grows by `growth`."""
    y, x = np.mgrid[0:54, 0:96].astype(np.float32)
    return np.stack([shift[0] + growth * (x - 47.5), shift[1] + growth * (y - 26.5)], axis=-1)


@pytest.mark.parametrize(
    ("shift", "growth", "label"),
    [
        ((1.0, 0.0), 0.0, "pan_left"),
        ((1.0, 0.3), 0.0, "pan_left"),  # a pan that is not quite level
        ((1.0, 0.7), 0.0, "pan_left+tilt_up"),
        ((-1.0, 1.0), 0.02, "pan_right+tilt_up+zoom_in"),
        ((0.0, 0.0), -0.02, "zoom_out"),
        ((0.1, 0.1), 0.0, "static"),
    ],
)
def test_an_axis_is_named_beside_the_fastest_when_it_is_about_half_as_fast(shift, growth, label):
    assert camera_label([(moving(shift, growth).astype(np.float32), 0.125)] * 3) == label


def test_labels_become_the_words_of_the_published_suffix():
    label = camera_label([(moving((1.0, 0.7)).astype(np.float32), 0.125)] * 3)
    told = with_suffix("a cat", {CaptionSuffix.CAMERA: label})
    assert told == "a cat. camera motion: pan left and tilt up."


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
