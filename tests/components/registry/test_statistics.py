"""The two tests of the gate: their level, and what they do with arms that are equal or do not belong together."""

from functools import partial

import numpy as np
import pytest

from components.evaluation.frechet import frechet_distance
from components.registry.policy.statistics import mean_difference, permutation_test


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
