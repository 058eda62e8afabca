"""The published format of scores in captions."""

import pytest

from components.data.caption_suffix import with_suffix
from components.data.config import CaptionSuffix

AESTHETIC, MOTION, CAMERA = CaptionSuffix
PUBLISHED = " aesthetic score: 5.5, motion score: 10, camera motion: pan left."


def test_all_scores_give_the_published_suffix():
    scores = {AESTHETIC: 5.51, MOTION: 10.2, CAMERA: "pan_left"}
    assert with_suffix("a cat sleeps", scores) == f"a cat sleeps.{PUBLISHED}"
    assert with_suffix("A cat sleeps.", scores) == f"A cat sleeps.{PUBLISHED}"


@pytest.mark.parametrize(
    ("scores", "ending"),
    [
        ({AESTHETIC: 6.0}, " aesthetic score: 6.0."),
        ({MOTION: 0.25}, " motion score: 0.2."),
        ({MOTION: 3.0, AESTHETIC: None}, " motion score: 3."),
        ({CAMERA: "zoom_in+pan_right"}, " camera motion: zoom in and pan right."),
        ({CAMERA: "static", AESTHETIC: 4.96}, " aesthetic score: 5.0, camera motion: static."),
    ],
)
def test_what_is_not_known_is_left_out(scores, ending):
    assert with_suffix("a cat", scores) == f"a cat.{ending}"


@pytest.mark.parametrize("scores", [{}, {AESTHETIC: None}, {CAMERA: "undetermined"}])
def test_nothing_known_changes_nothing(scores):
    assert with_suffix("a cat", scores) == "a cat"
