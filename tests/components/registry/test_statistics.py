"""The two tests of the gate: their level, and what they do with arms that are equal or do not belong together."""

from functools import partial

import numpy as np
import pytest

from components.evaluation.frechet import frechet_distance
from components.registry.policy.statistics import (
    GROUPS,
    composite_difference,
    jackknife_error,
    mean_difference,
    permutation_test,
)


def test_identical_arms_have_no_evidence_for_either_side():
    features = np.random.default_rng(3).normal(size=(32, 4))
    result = permutation_test(
        features, features, partial(frechet_distance, features), permutations=19, seed=0
    )
    assert (result.difference, result.p_better, result.p_worse) == (0.0, 1.0, 1.0)


def test_unpaired_arms_are_refused():
    distance = partial(frechet_distance, np.random.default_rng(4).normal(size=(8, 2)))
    with pytest.raises(ValueError, match="equal shapes"):
        permutation_test(np.zeros((8, 2)), np.zeros((7, 2)), distance, permutations=9, seed=0)


def test_the_bounds_of_a_mean_hold_about_as_often_as_they_say():
    held = 0
    for trial in range(300):
        differences = np.random.default_rng(trial).normal(0.3, 1.0, size=100)
        held += mean_difference(differences, alpha=0.05, replicates=200, seed=trial).lower < 0.3
    assert 0.91 <= held / 300 <= 0.98


def parts(rng, shift=0.0):
    """Scores of 60 prompts in each of two lists, around 0.5."""
    return {name: {f"{i}": 0.5 + shift + rng.normal(0, 0.1) for i in range(60)} for name in ("one", "two")}


def total(means):
    return (4 * means["one"] + means["two"]) / 5


def test_a_total_of_one_part_has_the_bounds_of_its_mean():
    rng = np.random.default_rng(0)
    sides = parts(rng, 0.05), parts(rng)
    found = composite_difference(*sides, lambda means: means["one"], alpha=0.05, replicates=2000, seed=1)
    differences = np.array([sides[0]["one"][key] - sides[1]["one"][key] for key in sorted(sides[0]["one"])])
    expected = mean_difference(differences, alpha=0.05, replicates=2000, seed=2)
    assert found.mean == pytest.approx(expected.mean)
    assert (found.lower, found.upper) == pytest.approx((expected.lower, expected.upper), abs=0.005)


def test_the_bounds_of_a_total_hold_about_as_often_as_they_say():
    held = 0
    for trial in range(200):
        rng = np.random.default_rng(trial)
        sides = parts(rng, 0.02), parts(rng)
        held += composite_difference(*sides, total, alpha=0.05, replicates=200, seed=trial).lower < 0.02
    assert 0.90 <= held / 200 <= 0.99


def test_the_jackknife_of_a_mean_is_its_standard_error():
    """With one row in each group it is the textbook formula."""
    rows = np.random.default_rng(3).normal(size=(GROUPS, 1))
    error = jackknife_error(rows, np.zeros_like(rows), lambda side: float(side.mean()))
    assert error == pytest.approx(float(rows.std(ddof=1)) / GROUPS**0.5)
    assert jackknife_error(rows[:-1], rows[:-1], lambda side: float(side.mean())) == float("inf")
