from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import linalg

from components.evaluation import frechet
from components.evaluation.frechet import frechet_distance, kernel_distance


def features(seed, count, width, *, scale=1.0, shift=0.0):
    return np.random.default_rng(seed).normal(size=(count, width)) * scale + shift


def by_eigenvalues(real, generated):
    """tr (S1 S2)^(1/2) from the eigenvalues of the product, which are those of a positive matrix."""
    one, two = np.cov(real, rowvar=False), np.cov(generated, rowvar=False)
    roots = np.sqrt(np.clip(np.linalg.eigvals(one @ two).real, 0, None)).sum()
    shift = real.mean(0) - generated.mean(0)
    return shift @ shift + np.trace(one) + np.trace(two) - 2 * roots


def with_diagonal_covariance(mean, deviations):
    """2 D rows whose mean and covariance (N - 1) are exactly these."""
    width = len(deviations)
    rows = np.concatenate([np.diag(deviations), -np.diag(deviations)])
    return rows * np.sqrt((2 * width - 1) / 2) + mean


@given(
    st.lists(st.floats(0.1, 5), min_size=3, max_size=3),
    st.lists(st.floats(0.1, 5), min_size=3, max_size=3),
    st.lists(st.floats(-3, 3), min_size=3, max_size=3),
)
def test_two_diagonal_gaussians_have_the_distance_of_the_closed_form(one, two, shift):
    real = with_diagonal_covariance(np.zeros(3), np.array(one))
    generated = with_diagonal_covariance(np.array(shift), np.array(two))
    expected = np.sum(np.square(shift)) + np.sum((np.array(one) - np.array(two)) ** 2)
    assert frechet_distance(real, generated) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(("real_rows", "generated_rows"), [(200, 150), (20, 200), (20, 15), (40, 41), (2, 2)])
def test_the_distance_agrees_with_the_eigenvalues_of_the_product_whatever_the_rank(real_rows, generated_rows):
    mixing = features(0, 40, 40)
    real = features(1, real_rows, 40) @ mixing
    generated = features(2, generated_rows, 40, scale=1.5, shift=0.3)
    expected = by_eigenvalues(real, generated)
    assert frechet_distance(real, generated) == pytest.approx(expected, rel=1e-5)


def test_the_distance_agrees_with_the_square_root_of_the_product_matrix():
    real, generated = features(1, 90, 6), features(2, 80, 6, scale=2.0, shift=1.0)
    root = linalg.sqrtm(np.cov(real, rowvar=False) @ np.cov(generated, rowvar=False)).real
    shift = real.mean(0) - generated.mean(0)
    spread = np.trace(np.cov(real, rowvar=False)) + np.trace(np.cov(generated, rowvar=False))
    expected = shift @ shift + spread - 2 * np.trace(root)
    assert frechet_distance(real, generated) == pytest.approx(expected, rel=1e-8)


def test_a_set_has_no_distance_to_itself_in_any_order():
    for rows in (5, 50):
        real = features(3, rows, 20)
        assert frechet_distance(real, real[::-1]) == pytest.approx(0, abs=1e-9)


def test_float32_features_far_from_zero_lose_nothing():
    for rows in (60, 10):
        drawn = features(1, rows, 16), features(2, 70, 16, scale=1.2)
        far = [(array + 1000).astype(np.float32) for array in drawn]
        near = [array.astype(np.float64) - 1000 for array in far]  # exactly the same sets, moved
        assert frechet_distance(*far) == pytest.approx(by_eigenvalues(*near), rel=1e-7)


@given(
    st.lists(st.integers(-50, 50), min_size=2, max_size=9),
    st.lists(st.integers(-50, 50), min_size=2, max_size=9),
)
def test_sets_of_one_feature_have_the_distance_of_two_normal_distributions_on_a_line(one, two):
    """(m1 - m2)^2 + (s1 - s2)^2, from lists of integers; constant and of two rows too."""
    expected = (np.mean(one) - np.mean(two)) ** 2 + (np.std(one, ddof=1) - np.std(two, ddof=1)) ** 2
    assert frechet_distance([[x] for x in one], [[x] for x in two]) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("distance", [frechet_distance, kernel_distance])
def test_the_layout_of_the_arrays_and_the_order_of_their_rows_do_not_matter(distance):
    real, generated = features(1, 30, 6), features(2, 25, 6, scale=2.0)
    wide = np.repeat(np.repeat(real, 2, axis=0), 2, axis=1)[::2, ::2]
    expected = distance(real, generated)
    assert distance(wide, np.asfortranarray(generated)[::-1]) == pytest.approx(expected, rel=1e-9)
    assert distance(real.tolist(), generated) == expected
    assert distance(generated, real) == pytest.approx(expected, rel=1e-9)


def test_the_degrees_of_freedom_scale_the_covariance():
    real, generated = features(1, 30, 4), features(2, 30, 4, scale=3.0)
    centred = [array - array.mean(0) for array in (real, generated)]
    assert frechet_distance(*centred, ddof=0) == pytest.approx(29 / 30 * frechet_distance(*centred), rel=1e-9)


@pytest.mark.parametrize("distance", [frechet_distance, kernel_distance])
@pytest.mark.parametrize(
    ("real", "generated", "message"),
    [
        (features(0, 1, 4), features(1, 9, 4), "at least 2"),
        (features(0, 9, 4), features(1, 9, 5), "width 4 and 5"),
        (features(0, 9, 4), np.full((9, 4), np.nan), "not finite"),
        (np.zeros(4), features(1, 9, 4), r"\(N, D\)"),
        (np.zeros((4, 0)), np.zeros((4, 0)), r"\(N, D\)"),
        ([["a"], ["b"]], features(1, 9, 1), "could not convert"),
        ([[1.0, 2.0], [3.0]], features(1, 9, 2), "inhomogeneous"),
    ],
)
def test_what_has_no_distance_is_an_error_and_not_a_number(distance, real, generated, message):
    with pytest.raises(ValueError, match=message):
        distance(real, generated)


def test_as_many_samples_as_degrees_of_freedom_are_an_error():
    with pytest.raises(ValueError, match="2 samples have no covariance with ddof 2"):
        frechet_distance(features(0, 9, 4), features(1, 2, 4), ddof=2)


def kernel_by_definition(real, generated):
    """The means over pairs, in exact arithmetic."""
    real, generated = ([[Fraction(float(x)) for x in row] for row in rows] for rows in (real, generated))

    def kernel(x, y):
        return (sum(p * q for p, q in zip(x, y, strict=True)) / len(x) + 1) ** 3

    def within(rows):
        pairs = [(i, j) for i in range(len(rows)) for j in range(len(rows)) if i != j]
        return sum(kernel(rows[i], rows[j]) for i, j in pairs) / len(pairs)

    between = sum(kernel(x, y) for x in real for y in generated) / (len(real) * len(generated))
    return float(within(real) + within(generated) - 2 * between)


CONSTANT = np.concatenate([features(1, 7, 2), np.full((7, 1), 4.0)], axis=1)


@pytest.mark.parametrize(
    ("real", "generated"),
    [
        (features(1, 7, 3), features(2, 5, 3, shift=0.5)),
        ((features(1, 9, 3) + 1000).astype(np.float32), (features(2, 8, 3) + 1000).astype(np.float32)),
        (features(1, 2, 1), features(2, 2, 1)),
        (features(1, 3, 12), features(2, 4, 12)),
        (CONSTANT, CONSTANT[::-1] * 1.001),
        (np.repeat(features(1, 3, 2), 3, axis=0), features(2, 6, 2)),
        ([[1, 2], [3, 4], [0, 0]], [[5, 6], [7, 9]]),
    ],
    ids=["usual", "float32 far from zero", "two of one", "wide", "constant", "duplicates", "lists"],
)
def test_the_kernel_distance_is_the_mean_over_pairs_by_definition(real, generated):
    assert kernel_distance(real, generated) == pytest.approx(kernel_by_definition(real, generated), rel=1e-10)


def test_the_kernel_distance_of_many_rows_is_taken_in_blocks(monkeypatch):
    real, generated = features(1, 50, 5), features(2, 40, 5)
    whole = kernel_distance(real, generated)
    monkeypatch.setattr(frechet, "BLOCK", 7)
    assert kernel_distance(real, generated) == pytest.approx(whole, rel=1e-10)


def by_subsets(real, generated, *, subsets, largest):
    """As StyleGAN has it: the mean over random subsets of equal size, of at most `largest` rows."""
    rng = np.random.default_rng(0)
    count, total = min(len(real), len(generated), largest), 0.0
    for _ in range(subsets):
        x = generated[rng.choice(len(generated), count, replace=False)]
        y = real[rng.choice(len(real), count, replace=False)]
        within = (x @ x.T / x.shape[1] + 1) ** 3 + (y @ y.T / y.shape[1] + 1) ** 3
        across = (x @ y.T / x.shape[1] + 1) ** 3
        total += (within.sum() - np.trace(within)) / (count - 1) - across.sum() * 2 / count
    return total / subsets / count


def test_sets_of_one_size_have_the_kernel_distance_that_stylegan_finds_in_subsets():
    real, generated = features(1, 60, 8), features(2, 60, 8, scale=1.3)
    expected = by_subsets(real, generated, subsets=3, largest=1000)
    assert kernel_distance(real, generated) == pytest.approx(expected, rel=1e-10)
    estimate = by_subsets(real, generated, subsets=400, largest=20)
    assert kernel_distance(real, generated) == pytest.approx(estimate, rel=0.15)


def test_the_kernel_distance_of_one_distribution_is_zero_on_average_at_any_size_and_the_frechet_is_not():
    for count in (16, 64):
        draws = [(features(2 * k, count, 16), features(2 * k + 1, count, 16)) for k in range(60)]
        kernels = [kernel_distance(*pair) for pair in draws]
        assert abs(np.mean(kernels)) < 3 * np.std(kernels) / np.sqrt(len(kernels))
        assert np.mean([frechet_distance(*pair) for pair in draws]) > 1
