import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.data.buckets import (
    RESOLUTIONS,
    TOO_SHORT,
    TOO_SMALL,
    area_of,
    assign,
    available_frames,
    buckets_of,
    fill,
    nearest_aspect,
    sides,
)
from components.data.config import BucketsConfig
from components.errors import ParamsError

PUBLISHED = BucketsConfig(
    resolutions=("144p", "240p", "360p", "480p", "720p"),
    frames=(1, 51, 102, 204, 408),
    aspects=("9:16", "1:1", "16:9"),
    multiple=8,
)


@pytest.mark.parametrize(
    ("resolution", "aspect", "size"),
    [
        ("32px", "1:1", (32, 32)),
        ("32px", "2:3", (24, 40)),
        ("720p", "9:16", (720, 1280)),
        ("144p", "1:1", (192, 192)),
    ],
)
def test_sides_are_those_of_the_published_tables(resolution, aspect, size):
    assert sides(resolution, aspect, 8) == size


@given(
    resolution=st.sampled_from(sorted(set(RESOLUTIONS) - {"144p"})),
    height=st.integers(1, 3),
    width=st.integers(1, 3),
    multiple=st.sampled_from([8, 16]),
)
def test_every_size_keeps_area_and_ratio_within_the_rounding(resolution, height, width, multiple):
    rows, columns = sides(resolution, f"{height}:{width}", multiple)
    assert rows % multiple == columns % multiple == 0
    assert rows * columns == pytest.approx(area_of(resolution), rel=0.12)
    assert rows / columns == pytest.approx(height / width, rel=0.12)


@pytest.mark.parametrize("name", ["240", "32", "px", "0px", "-3px"])
def test_an_unknown_resolution_is_refused_with_the_valid_names(name):
    with pytest.raises(ParamsError, match="240p"):
        area_of(name)


def test_an_aspect_is_nearest_on_a_log_scale_so_portrait_and_landscape_are_treated_alike():
    aspects = ("9:16", "1:1", "16:9")
    for height, width in ((720, 1280), (485, 640), (300, 301), (1000, 10)):
        straight = nearest_aspect(height, width, aspects)
        turned = nearest_aspect(width, height, tuple(":".join(reversed(a.split(":"))) for a in aspects))
        assert turned == ":".join(reversed(straight.split(":")))


def test_a_clip_serves_every_length_it_reaches_and_every_resolution_it_covers():
    found = assign(360, 640, 102, PUBLISHED)
    assert {bucket.frames for bucket in found.buckets} == {1, 51, 102}
    assert {bucket.resolution for bucket in found.buckets} == {"144p", "240p", "360p"}
    assert {bucket.aspect for bucket in found.buckets} == {"9:16"}
    assert found.reason is None


def test_eighty_percent_of_the_area_is_enough_and_less_is_not():
    config = BucketsConfig(resolutions=("100px",), frames=(1,), aspects=("1:1",), multiple=4)
    assert assign(80, 100, 1, config).buckets
    assert assign(79, 100, 1, config).reason == TOO_SMALL


def test_a_clip_that_serves_nothing_says_why():
    assert assign(10, 10, 51, PUBLISHED).reason == TOO_SMALL
    videos = PUBLISHED.model_copy(update={"frames": (51,)})
    assert assign(720, 1280, 50, videos).reason == TOO_SHORT


def test_aspects_that_round_to_the_same_sides_are_one_bucket():
    config = BucketsConfig(resolutions=("32px",), frames=(1,), aspects=("1:1", "15:16"), multiple=8)
    assert len(buckets_of(config)) == 1
    assert assign(90, 96, 1, config).buckets == buckets_of(config)


@given(st.lists(st.tuples(st.integers(8, 2000), st.integers(8, 2000), st.integers(1, 500)), max_size=20))
def test_fill_accounts_for_every_clip(geometries):
    counted = fill(geometries, PUBLISHED)
    assert counted.served + sum(counted.unserved.values()) == len(geometries)
    assert set(counted.clips) == set(buckets_of(PUBLISHED))


def test_frames_of_a_clip_whose_length_is_a_multiple_of_the_frame_time_are_not_lost_to_rounding():
    assert all(available_frames(count / 30, 30) == count for count in range(1, 2000))


def test_a_picture_is_one_frame_at_any_rate_and_no_clip_has_none():
    assert available_frames(0.04, 8) == 1  # a still is shown for 1/25 s
    assert available_frames(1.0, 8, own=1) == 1
    assert available_frames(1.0, 8, own=25) == 8
