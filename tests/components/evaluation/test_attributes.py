import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.evaluation.attributes import CHANCE, accuracy_metric, combination, judge, wilson_interval
from components.evaluation.gallery import choose

PROMPTS = [
    "a red circle moves left over grey stone",
    "a blue square moves up on dark slate, camera pans right",
    "a dog runs",
    "something green",
]
SEEN = {
    "colour": ["red", "red", "red", "green"],
    "shape": ["circle", "square", "circle", "circle"],
    "motion": ["left", "right", "left", "up"],
}


def judged(captions=()):
    return judge(["a", "b", "c", "d"], PROMPTS, SEEN, captions)


def test_only_prompts_that_name_an_attribute_are_counted():
    judgements = judged()
    colour = accuracy_metric("colour", judgements, "id")
    assert (colour.n, colour.value) == (3, pytest.approx(2 / 3))
    assert colour.per_item == {"a": 1.0, "b": 0.0, "d": 1.0}
    motion = accuracy_metric("motion", judgements, "id")
    assert (motion.n, motion.value) == (2, 0.5)


def test_what_the_camera_does_is_not_the_motion_asked_for():
    assert combination(PROMPTS[1]) == ("blue", "square", "up")


def test_a_metric_that_no_prompt_asks_for_has_no_value():
    metric = accuracy_metric(
        "colour", judge(["x"], ["a dog runs"], {k: v[:1] for k, v in SEEN.items()}, ()), "id"
    )
    assert (metric.value, metric.n, metric.interval) == (None, 0, None)


def test_a_combination_is_held_out_when_no_training_caption_has_it():
    held_out = {one.item for one in judged(["the red circle moving left, camera zooms in"]) if one.held_out}
    assert held_out == {"b"}


def test_chance_is_what_a_uniform_guess_scores():
    rng = np.random.default_rng(0)
    words = {"colour": ["red", "green", "blue", "yellow"], "shape": ["circle", "square", "triangle"]}
    words["motion"] = ["left", "right", "up", "down"]
    guesses = {name: rng.choice(valid, 4000).tolist() for name, valid in words.items()}
    judgements = judge([str(i) for i in range(4000)], [PROMPTS[0]] * 4000, guesses, ())
    for name, chance in CHANCE.items():
        assert accuracy_metric(name, judgements, "id").value == pytest.approx(chance, abs=0.03)


@given(st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_wilson_interval_solves_the_score_equation(counts):
    successes, count = counts
    share = successes / count
    for bound in wilson_interval(successes, count):
        assert 0 <= bound <= 1
        if 0 < bound < 1 and bound != share:
            assert (share - bound) ** 2 == pytest.approx(1.959964**2 * bound * (1 - bound) / count, rel=1e-6)


def test_the_gallery_shows_every_colour_and_motion_before_any_twice():
    prompts = [f"a {c} circle moves {m}" for c in ("red", "blue") for m in ("left", "up") for _ in range(5)]
    words = {"colour": ["red"] * 20, "shape": ["circle"] * 20, "motion": ["left"] * 20}
    judgements = judge([str(i) for i in range(20)], prompts, words, ())
    chosen = choose(judgements, 4)
    assert {prompts[index] for index in chosen} == set(prompts)
    assert choose(judgements, 100) == list(range(20))
