import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import linalg

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
    real, generated = features(1, 60, 16), features(2, 70, 16, scale=1.2)
    expected = frechet_distance(real, generated)
    far = [(array + 1000).astype(np.float32) for array in (real, generated)]
    assert frechet_distance(*far) == pytest.approx(expected, rel=1e-3)


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
    ],
)
def test_what_has_no_distance_is_an_error_and_not_a_number(distance, real, generated, message):
    with pytest.raises(ValueError, match=message):
        distance(real, generated)


def test_the_kernel_distance_is_the_mean_over_pairs_by_definition():
    real, generated = features(1, 7, 3), features(2, 5, 3, shift=0.5)

    def kernel(x, y):
        return (x @ y / 3 + 1) ** 3

    def within(rows):
        pairs = [(i, j) for i in range(len(rows)) for j in range(len(rows)) if i != j]
        return np.mean([kernel(rows[i], rows[j]) for i, j in pairs])

    between = np.mean([kernel(x, y) for x in real for y in generated])
    expected = within(real) + within(generated) - 2 * between
    assert kernel_distance(real, generated) == pytest.approx(expected, rel=1e-12)


def test_the_kernel_distance_of_one_distribution_is_zero_on_average_at_any_size_and_the_frechet_is_not():
    for count in (16, 64):
        draws = [(features(2 * k, count, 16), features(2 * k + 1, count, 16)) for k in range(60)]
        kernels = [kernel_distance(*pair) for pair in draws]
        assert abs(np.mean(kernels)) < 3 * np.std(kernels) / np.sqrt(len(kernels))
        assert np.mean([frechet_distance(*pair) for pair in draws]) > 1
