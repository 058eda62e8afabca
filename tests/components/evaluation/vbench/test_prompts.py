import json

import pytest

from components.errors import UserError
from components.evaluation.vbench.prompts import expected_videos, standard_requests

ENTRIES = [
    {"prompt_en": "a stop sign", "dimension": ["temporal_flickering"]},
    {"prompt_en": "a cat runs", "dimension": ["subject_consistency", "dynamic_degree", "motion_smoothness"]},
    {"prompt_en": "a beach", "dimension": ["appearance_style"]},
    {"prompt_en": "a beach", "dimension": ["overall_consistency", "aesthetic_quality", "imaging_quality"]},
]


@pytest.fixture
def info(tmp_path):
    path = tmp_path / "info.json"
    path.write_text(json.dumps(ENTRIES))
    return path


def test_a_prompt_of_two_lists_is_made_once(info):
    requests = standard_requests(info, seed=100)
    assert len(requests) == 15
    assert [request.file for request in requests[:2]] == ["a stop sign-0.mp4", "a stop sign-1.mp4"]
    assert len({request.file for request in requests}) == 15
    assert expected_videos(requests, "appearance_style") == 5
    assert expected_videos(requests, "imaging_quality") == 5


def test_every_video_has_a_seed_of_its_own_counting_from_the_given_one(info):
    assert [request.seed for request in standard_requests(info, seed=100)] == list(range(100, 115))


def test_flickering_prompts_can_have_more_samples_of_which_five_count(info):
    requests = standard_requests(info, seed=0, flicker_samples=25)
    assert len(requests) == 35
    assert expected_videos(requests, "temporal_flickering") == 5


def test_only_the_prompts_of_the_named_dimensions(info):
    requests = standard_requests(info, seed=0, dimensions=["dynamic_degree"])
    assert {request.prompt for request in requests} == {"a cat runs"}
    with pytest.raises(UserError, match="no dimension colour"):
        standard_requests(info, seed=0, dimensions=["colour"])
