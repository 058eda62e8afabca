"""The published format of scores in captions."""

import pytest

from components.data.caption_suffix import asking, is_said, with_suffix
from components.data.config import CaptionSuffix, PromptScores

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


def test_a_prompt_asks_in_the_words_of_the_captions():
    wanted = PromptScores(aesthetic=5.5, motion=10, camera="pan left")
    assert asking(["a cat sleeps"], wanted) == [f"a cat sleeps.{PUBLISHED}"]
    assert asking(["a cat", "a dog."], PromptScores()) == ["a cat", "a dog."]


def test_each_score_is_said_by_its_own_share_of_the_clips():
    clips = [f"{number:016x}" for number in range(4000)]
    said = {name: {clip for clip in clips if is_said(clip, name, 0.8)} for name in CaptionSuffix}
    for found in said.values():
        assert len(found) / len(clips) == pytest.approx(0.8, abs=0.025)  # four standard deviations
    both = said[AESTHETIC] & said[MOTION]
    assert len(both) / len(clips) == pytest.approx(0.64, abs=0.031)
    assert all(is_said(clip, MOTION, 1.0) and not is_said(clip, MOTION, 0.0) for clip in clips[:100])
