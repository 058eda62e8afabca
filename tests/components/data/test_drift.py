"""Drift between versions: the population stability index against its definition, and what it must notice."""

import json
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.data.drift import NAMES, NUMBERS, drift, stability, summarise

CLIPS = 4000


def frame(seed, clips=CLIPS, **columns):
    generator = np.random.default_rng(seed)
    values = {name: generator.lognormal(0, 1, clips) for name in NUMBERS}
    names = {name: generator.choice(["one", "two"], clips) for name in NAMES}
    return pd.DataFrame({**values, **names, **columns})


def moved(before, after):
    return drift(json.loads(json.dumps(summarise(before, "v1"))), after)


shares = st.lists(st.floats(0.01, 1), min_size=2, max_size=6).map(
    lambda parts: {str(index): part / sum(parts) for index, part in enumerate(parts)}
)


@given(shares)
def test_shares_that_are_the_same_have_not_moved(one):
    assert stability(one, one) == 0


def test_the_index_is_its_definition():
    before, now = {"a": 0.5, "b": 0.3, "c": 0.2}, {"a": 0.2, "b": 0.3, "c": 0.5}
    expected = sum((now[key] - before[key]) * math.log(now[key] / before[key]) for key in before)
    assert stability(before, now) == pytest.approx(expected, rel=1e-6)
    assert stability(before, now) == stability(now, before)


def test_a_part_that_is_new_counts_and_is_finite():
    assert 0.5 < stability({"a": 1.0}, {"a": 0.9, "b": 0.1}) < 5


def test_the_version_itself_has_not_moved_whatever_its_values():
    same = frame(1, motion=np.float32(np.random.default_rng(2).choice([0.1, 0.3, np.nan], CLIPS)), fps=8.0)
    assert set(moved(same, same).values()) == {0.0}


def test_another_draw_of_the_same_distribution_is_below_what_people_call_little():
    assert max(moved(frame(1), frame(2)).values()) < 0.1


def test_a_shift_of_one_deviation_is_above_what_people_call_much_and_comes_first():
    after = frame(2)
    after["motion"] = after["motion"] * math.e
    found = moved(frame(1), after)
    assert next(iter(found)) == "motion"
    assert found["motion"] > 0.25


def test_scores_that_are_missing_now_are_a_change():
    after = frame(2)
    after.loc[: CLIPS // 2, "sharpness"] = np.nan
    assert moved(frame(1), after)["sharpness"] > 0.25


def test_a_name_that_becomes_common_is_a_change():
    assert moved(frame(1), frame(2, split=np.full(CLIPS, "one")))["split"] > 0.25


def test_a_summary_is_small_and_plain():
    text = json.dumps(summarise(frame(1, clips=CLIPS), "v1"))
    assert len(text) < 20_000


@pytest.mark.parametrize("now", [7.0, 9.0])
def test_a_column_of_one_value_that_becomes_another_is_a_change(now):
    assert moved(frame(1, fps=8.0), frame(2, fps=8.0))["fps"] == 0
    assert moved(frame(1, fps=8.0), frame(2, fps=now))["fps"] > 0.25
