"""The published assignment, against its definition written down clip by clip."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.data.bucket_walk import Geometries, draws, slots_of, walk
from components.data.buckets import area_of
from components.data.config import BatchesConfig

STAGE1 = BatchesConfig(  # a part of the published table
    seed=42,
    small_bucket="merge",
    buckets={
        "144p": {1: (1.0, 475), 51: (1.0, 51), 102: ((1.0, 0.33), 27), 204: ((1.0, 0.1), 13)},
        "240p": {1: (0.3, 297), 51: (0.4, 20), 102: ((0.4, 0.33), 10), 204: ((0.4, 0.1), 5)},
        "360p": {1: (0.2, 141), 51: (0.15, 8), 102: (0.0, 4)},
        "480p": {1: (0.1, 89)},
    },
)


def geometries(*clips):
    """Clips as (height, width, frames); their keys are spread numbers."""
    heights, widths, frames = (np.array(column, dtype=np.int64) for column in zip(*clips, strict=True))
    keys = np.random.default_rng(len(clips)).integers(0, 2**63, len(clips), dtype=np.uint64)
    return Geometries(keys, heights, widths, frames)


def by_definition(height, width, frames, config, draw):
    """One clip; `draw(resolution, length, which)` gives the random numbers."""
    for resolution in sorted(config.buckets, key=area_of, reverse=True):
        if height * width < 0.8 * area_of(resolution):
            continue
        lengths = config.buckets[resolution]
        if frames == 1:
            if 1 in lengths and draw(resolution, 1, "keep") < lengths[1][0]:
                return resolution, 1
            continue
        for length in sorted(lengths, reverse=True):
            keep = lengths[length][0]
            p, p_time = keep if isinstance(keep, tuple) else (keep, 1.0)
            if length == 1 or not frames > length or draw(resolution, length, "time") >= p_time:
                continue
            if draw(resolution, length, "keep") < p:
                return resolution, length
            break  # to the next smaller resolution, not to a shorter length
    return None


clip = st.tuples(
    st.sampled_from([100, 144, 192, 240, 360, 480, 720]),
    st.sampled_from([120, 256, 320, 426, 640, 1280]),
    st.sampled_from([1, 30, 51, 52, 102, 103, 205, 500]),
)


@settings(max_examples=60)
@given(st.lists(clip, min_size=1, max_size=20), st.integers(0, 3))
def test_the_walk_is_its_definition(clips, epoch):
    found = walk(seen := geometries(*clips), STAGE1, epoch=epoch)
    slots = slots_of(STAGE1)
    places = {(slot.resolution, slot.frames): index for index, slot in enumerate(slots)}
    for row, (height, width, frames) in enumerate(clips):

        def draw(resolution, length, which, row=row):
            purpose = 2 * places[resolution, length] + (which == "keep")
            return draws(seen.keys[row : row + 1], STAGE1.seed, epoch, purpose)[0]

        slot = slots[found.taken[row]]
        taken = None if found.taken[row] < 0 else (slot.resolution, slot.frames)
        assert taken == by_definition(height, width, frames, STAGE1, draw)


def test_every_clip_is_taken_or_has_a_reason():
    generator = np.random.default_rng(0)
    clips = [
        (int(h), int(h * 16 / 9), int(f))
        for h, f in zip(generator.integers(40, 800, 5000), generator.integers(1, 600, 5000), strict=True)
    ]
    found = walk(geometries(*clips), STAGE1, epoch=0)
    assert (found.taken >= 0).sum() + sum(found.reasons().values()) == 5000
    assert set(found.reasons()) <= {"too_small", "too_short", "not_drawn", "no_image_bucket"}


def test_shares_are_the_published_probabilities():
    found = walk(geometries(*[(720, 1280, 500)] * 40_000), STAGE1, epoch=0)
    shares = {
        (slot.resolution, slot.frames): (found.taken == index).mean()
        for index, slot in enumerate(found.slots)
    }
    assert shares["360p", 102] == 0  # kept with 0: longer clips are barred from the resolution
    assert shares["240p", 204] == pytest.approx(0.1 * 0.4, abs=0.005)
    assert shares["240p", 102] == pytest.approx(0.9 * 0.33 * 0.4, abs=0.01)
    left = 1 - sum(share for (resolution, _), share in shares.items() if resolution == "240p")
    assert shares["144p", 204] == pytest.approx(left * 0.1, abs=0.005)
    assert found.reasons() == {}  # 51 frames at 144p take the rest


def test_a_clip_of_exactly_the_frames_is_not_longer_than_them():
    config = BatchesConfig(seed=0, small_bucket="repeat", buckets={"144p": {51: (1.0, 1)}})
    found = walk(geometries((240, 426, 51), (240, 426, 52)), config, epoch=0)
    assert found.taken.tolist() == [-1, 0]
    assert found.reasons() == {"too_short": 1}


def test_draws_are_uniform_and_independent_of_seed_epoch_and_purpose():
    keys = np.arange(100_000, dtype=np.uint64)
    columns = [draws(keys, *which) for which in ((1, 0, 0), (1, 0, 1), (1, 1, 0), (2, 0, 0))]
    for values in columns:
        counts = np.histogram(values, 20, (0, 1))[0]
        assert ((counts - 5000) ** 2 / 5000).sum() < 44  # chi squared, 19 degrees of freedom, p = 0.001
    assert np.abs(np.corrcoef(columns) - np.eye(4)).max() < 0.02


def test_an_epoch_draws_anew_and_the_same_epoch_draws_the_same_in_any_order():
    seen = geometries(*[(720, 1280, 500)] * 200)
    first = walk(seen, STAGE1, epoch=0).taken
    assert (walk(seen, STAGE1, epoch=1).taken != first).any()
    order = np.random.default_rng(1).permutation(200)
    turned = Geometries(seen.keys[order], seen.heights[order], seen.widths[order], seen.frames[order])
    assert (walk(turned, STAGE1, epoch=0).taken == first[order]).all()
