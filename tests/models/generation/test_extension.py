"""Extension: what is there stays, and every round continues from its end."""

import numpy as np
import pytest

from models.generation.extension import ROUND_SEED, extend
from tests.tiny_parts import CAPTIONS


@pytest.fixture(scope="module")
def videos(pipeline):
    return pipeline(CAPTIONS)


def test_existing_frames_are_kept_and_each_round_adds_the_rest_of_a_clip(pipeline, videos):
    longer = extend(pipeline, videos, CAPTIONS, overlap=3, rounds=2)
    assert longer.shape == (2, 7 + 2 * (7 - 3), 16, 24, 3)
    assert np.array_equal(longer[:, :7], videos)


def test_a_round_is_a_video_that_begins_with_the_last_frames(pipeline, videos):
    longer = extend(pipeline, videos, CAPTIONS, overlap=3, rounds=2, seed=4)
    first = pipeline(CAPTIONS, given=videos[:, -3:], seed=4)
    second = pipeline(CAPTIONS, given=longer[:, 8:11], seed=4 + ROUND_SEED)
    assert np.array_equal(longer[:, 7:11], first[:, 3:])
    assert np.array_equal(longer[:, 11:], second[:, 3:])


def test_videos_of_another_size_than_the_default_keep_theirs(pipeline):
    square = pipeline(CAPTIONS[:1], width=16)
    assert extend(pipeline, square, CAPTIONS[:1], overlap=1).shape == (1, 13, 16, 16, 3)


def test_v_prediction_extends_as_well(v_pipeline):
    videos = v_pipeline(CAPTIONS[:1])
    assert extend(v_pipeline, videos, CAPTIONS[:1], overlap=5).shape[1] == 9


def test_progress_counts_the_steps_of_all_rounds(pipeline, videos):
    seen = []
    extend(
        pipeline,
        videos,
        CAPTIONS,
        overlap=1,
        rounds=2,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen == [(done, 6) for done in range(1, 7)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"overlap": 2}, "give 1, 3, 5"),
        ({"overlap": 3, "rounds": 0}, "rounds must be at least 1"),
        ({"overlap": 8, "num_frames": 12}, "7 frames, fewer than the overlap of 8"),
    ],
)
def test_what_cannot_be_continued_is_refused(pipeline, videos, options, message):
    with pytest.raises(ValueError, match=message):
        extend(pipeline, videos, CAPTIONS, **options)


def test_there_is_one_prompt_per_video(pipeline, videos):
    with pytest.raises(ValueError, match="2 videos and 1 prompts"):
        extend(pipeline, videos, CAPTIONS[:1], overlap=1)
