from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from footage_workspace import SCENE

from components.data.synthetic import (
    BACKGROUNDS,
    CAMERAS,
    COLOURS,
    COMBINATIONS,
    DIRECTIONS,
    MOTIONS,
    SHAPES,
    attributes_of,
    caption_of,
    held_out_combinations,
    render_scene,
    sample_spec,
)
from components.errors import UserError

SPEC = replace(SCENE, frames=9, seed=3)
# what the eye calls these colours: which channels are strong
STRONG = {"red": (1, 0, 0), "green": (0, 1, 0), "blue": (0, 0, 1), "yellow": (1, 1, 0)}


def samples(count, **more):
    rng = np.random.default_rng(5)
    return [sample_spec(rng, size=(96, 96), frames=9, **more) for _ in range(count)]


def shape_mask(frames):
    """Pixels (T, H, W) far more colourful than any background."""
    return frames.max(axis=-1).astype(int) - frames.min(axis=-1) > 100


def centres(frames):
    """Middle of the shape per frame, (T, 2) as x and y in pixels."""
    return np.array([np.argwhere(mask).mean(axis=0)[::-1] for mask in shape_mask(frames)])


def test_equal_specs_give_equal_pixels_and_another_seed_gives_others():
    np.testing.assert_array_equal(render_scene(SPEC), render_scene(SPEC))
    assert (render_scene(SPEC) != render_scene(replace(SPEC, seed=4))).mean() > 0.5


@pytest.mark.parametrize("size", [(96, 96), (80, 120), (120, 80), (33, 47)])
def test_frames_have_the_size_that_was_asked_for(size):
    frames = render_scene(replace(SPEC, height=size[0], width=size[1], frames=5))
    assert frames.shape == (5, *size, 3)
    assert frames.dtype == np.uint8


@pytest.mark.parametrize("spec", samples(40), ids=caption_of)
def test_the_shape_moves_as_its_caption_says_whatever_the_camera_does(spec):
    path = centres(render_scene(spec))
    moved = (path[-1] - path[0]) / 96
    along = moved @ np.array(DIRECTIONS[spec.motion])
    across = moved @ np.abs(np.array(DIRECTIONS[spec.motion])[::-1])
    assert 0.3 < along < 0.55  # of the frame in a second
    assert abs(across) < 0.06


@pytest.mark.parametrize("spec", samples(24), ids=caption_of)
def test_the_shape_has_the_colour_of_its_caption_and_is_large_enough(spec):
    frames = render_scene(spec)
    mask = shape_mask(frames)
    colour = frames[mask].mean(axis=0)
    assert tuple(int(level > 0.6 * colour.max()) for level in colour) == STRONG[spec.colour]
    assert 0.04 < mask[4].mean() < 0.16


def test_a_shape_at_rest_moves_with_the_camera_only():
    still = render_scene(replace(SPEC, motion=None))
    assert (still == still[0]).all()
    panned = centres(render_scene(replace(SPEC, motion=None, camera="pans right")))
    assert panned[0, 0] - panned[-1, 0] == pytest.approx(0.1 * 96, abs=1.0)  # it drifts to the left


def test_a_pan_moves_the_background():
    spec = replace(SPEC, camera="pans left", motion=None, frames=9)  # the shape rests on the background
    frames = render_scene(spec)[..., 0].astype(float)
    shifts = [np.abs(frames[-1][:, 16 + dx : 80 + dx] - frames[0][:, 16:80]).mean() for dx in range(16)]
    assert int(np.argmin(shifts)) == pytest.approx(9.6, abs=1)  # a tenth of the side in a second


def test_captions_name_their_attributes_and_are_short():
    for spec in samples(200):
        caption = caption_of(spec)
        assert attributes_of(caption) == {"colour": spec.colour, "shape": spec.shape, "motion": spec.motion}
        assert len(caption.split()) <= 20
        assert spec.background in caption


def test_there_are_paraphrases():
    templates = {caption_of(replace(SPEC, seed=seed)) for seed in range(20)}
    assert len(templates) >= 3


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A RED Circle moves up.", ("red", "circle", "up")),
        ("a blue square over sand, camera pans left", ("blue", "square", None)),
        ("camera panning to the right, a triangle drops down", (None, "triangle", "down")),
        ("a reddish circular thing", (None, None, None)),
        ("", (None, None, None)),
    ],
)
def test_attributes_are_whole_words_and_the_camera_is_not_the_motion(text, expected):
    assert tuple(attributes_of(text).values()) == expected


@pytest.mark.parametrize("count", [1, 8, 12, 24])
def test_held_out_combinations_leave_every_pair_of_attributes_in_training(count):
    held_out = held_out_combinations(1, count)
    assert len(held_out) == count
    left = [one for one in COMBINATIONS if one not in held_out]
    for first, second in ((0, 1), (0, 2), (1, 2)):
        pairs = {(one[first], one[second]) for one in COMBINATIONS}
        assert {(one[first], one[second]) for one in left} == pairs
    for axis, words in enumerate((COLOURS, SHAPES, MOTIONS)):
        used = Counter(one[axis] for one in held_out)
        assert max(used[word] for word in words) - min(used[word] for word in words) <= 2


def test_held_out_combinations_are_a_function_of_the_seed():
    assert held_out_combinations(1, 8) == held_out_combinations(1, 8)
    assert held_out_combinations(1, 8) != held_out_combinations(2, 8)


def test_too_many_held_out_combinations_are_refused():
    with pytest.raises(UserError, match="between 0 and 24"):
        held_out_combinations(1, 25)


def test_excluded_combinations_are_never_drawn():
    held_out = held_out_combinations(1, 24)
    drawn = {(spec.colour, spec.shape, spec.motion) for spec in samples(300, exclude=held_out)}
    assert not drawn & held_out
    with pytest.raises(UserError, match="no combination"):
        samples(1, exclude=COMBINATIONS)


def test_every_word_of_the_vocabulary_is_drawn():
    specs = samples(300)
    assert {spec.background for spec in specs} == set(BACKGROUNDS)
    assert {spec.camera for spec in specs} == set(CAMERAS)


def test_a_word_outside_of_the_vocabulary_is_refused_by_name():
    with pytest.raises(UserError, match="scene colour is 'purple'; valid: red, green, blue, yellow"):
        replace(SPEC, colour="purple")
