import numpy as np
import pytest

from components.evaluation.frechet import frechet_distance
from components.evaluation.frechet_infinity import frechet_infinity

WIDTH = 32


def normal(count, seed, *, shift=0.0):
    return np.random.default_rng(seed).normal(size=(count, WIDTH)) + shift


def test_equal_distributions_are_near_zero_where_the_plain_distance_is_biased():
    real, generated = normal(40_000, 0), normal(512, 1)
    plain = frechet_distance(real, generated)
    assert plain > 0.5  # d (d + 3) / (4 N) is about 0.55
    assert abs(frechet_infinity(real, generated, seed=3).value) < plain / 4


def test_the_value_is_the_distance_of_the_distributions():
    found = frechet_infinity(normal(40_000, 0), normal(1024, 1, shift=0.25), seed=3)
    assert found.value == pytest.approx(WIDTH * 0.25**2, rel=0.1)
    assert found.slope > 0
    assert found.residual < 0.1


def test_equal_seeds_give_equal_values():
    real, generated = normal(200, 0), normal(100, 1)
    assert frechet_infinity(real, generated, seed=1) == frechet_infinity(real, generated, seed=1)


def test_too_few_samples_for_a_line_are_refused():
    with pytest.raises(ValueError, match="at least 16 samples"):
        frechet_infinity(normal(50, 0), normal(15, 1), seed=0)
