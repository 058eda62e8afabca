import numpy as np
import pytest
from scipy import ndimage

from components.evaluation.motion import motion_energy, temporal_flickering
from components.evaluation.reconstruction import PSNR_CAP, pooled_psnr, psnr, ssim


def clip(seed=0, shape=(3, 20, 24, 3)):
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def test_psnr_of_a_known_error_is_that_of_its_formula():
    reference = np.zeros((2, 8, 8, 3))
    other = np.full_like(reference, 0.1)
    assert psnr(reference, other, data_range=1.0) == pytest.approx(20.0)
    assert psnr(reference * 255, other * 255, data_range=255) == pytest.approx(20.0)


def test_psnr_is_the_mean_over_frames_and_the_pooled_one_is_not():
    reference = np.zeros((2, 8, 8, 1))
    other = np.stack([np.full((8, 8, 1), 0.1), np.full((8, 8, 1), 0.01)])
    assert psnr(reference, other, data_range=1.0) == pytest.approx((20 + 40) / 2)
    assert pooled_psnr(reference, other, data_range=1.0) == pytest.approx(-10 * np.log10((0.01 + 0.0001) / 2))


def test_equal_clips_score_at_the_cap_and_not_infinity():
    assert psnr(clip(), clip(), data_range=255) == PSNR_CAP
    assert pooled_psnr(clip(), clip(), data_range=255) == PSNR_CAP
    assert ssim(clip(), clip(), data_range=255) == pytest.approx(1.0)


def ssim_by_definition(first, second, data_range):
    """Every window of one channel of one frame, weighted by an 11x11 Gaussian."""
    offsets = np.arange(-5, 6)
    weights = np.exp(-(offsets[:, None] ** 2 + offsets[None] ** 2) / (2 * 1.5**2))
    weights /= weights.sum()
    one, two = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    scores = []
    for row in range(first.shape[0] - 10):
        for column in range(first.shape[1] - 10):
            x = first[row : row + 11, column : column + 11].astype(float)
            y = second[row : row + 11, column : column + 11].astype(float)
            mean_x, mean_y = (weights * x).sum(), (weights * y).sum()
            variance_x = (weights * (x - mean_x) ** 2).sum()
            variance_y = (weights * (y - mean_y) ** 2).sum()
            covariance = (weights * (x - mean_x) * (y - mean_y)).sum()
            luminance = (2 * mean_x * mean_y + one) / (mean_x**2 + mean_y**2 + one)
            scores.append(luminance * (2 * covariance + two) / (variance_x + variance_y + two))
    return np.mean(scores)


def test_ssim_is_the_weighted_definition_window_by_window():
    first = clip(1, (2, 14, 15, 2))
    noise = np.random.default_rng(2).normal(0, 30, first.shape)
    second = np.clip(first + noise, 0, 255).astype(np.uint8)
    expected = np.mean(
        [ssim_by_definition(first[t, ..., c], second[t, ..., c], 255) for t in range(2) for c in range(2)]
    )
    assert ssim(first, second, data_range=255) == pytest.approx(expected, rel=1e-9)


def ssim_by_filters(first, second, data_range):
    """As scikit-image has it: a Gaussian filter cut off at 3.5 sigma, and the border of 5 pixels left out."""

    def blurred(image):
        return ndimage.gaussian_filter(image, 1.5, truncate=3.5)

    mean_x, mean_y = blurred(first), blurred(second)
    variance_x, variance_y = blurred(first**2) - mean_x**2, blurred(second**2) - mean_y**2
    covariance = blurred(first * second) - mean_x * mean_y
    one, two = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    top = (2 * mean_x * mean_y + one) * (2 * covariance + two)
    scores = top / ((mean_x**2 + mean_y**2 + one) * (variance_x + variance_y + two))
    return scores[5:-5, 5:-5].mean()


@pytest.mark.parametrize(
    ("scale", "shift", "kind", "data_range"),
    [
        (1, 0, np.uint8, 255),
        (1 / 255, 0, np.float64, 1.0),
        (1 / 255, 0, np.float32, 1.0),
        (1 / 127.5, -1, np.float64, 2.0),
    ],
)
def test_both_agree_with_filters_for_every_kind_of_pixel(scale, shift, kind, data_range):
    noisy = np.clip(clip(1).astype(int) + np.random.default_rng(2).integers(-40, 40, clip(1).shape), 0, 255)
    first, second = ((video * scale + shift).astype(kind) for video in (clip(1), noisy))
    exact = [video.astype(np.float64) for video in (first, second)]
    expected = [
        ssim_by_filters(exact[0][t, ..., c], exact[1][t, ..., c], data_range)
        for t in range(3)
        for c in range(3)
    ]
    errors = np.square(exact[0] - exact[1]).mean(axis=(1, 2, 3))
    for view in (first, np.asfortranarray(first)):
        assert ssim(view, second, data_range=data_range) == pytest.approx(np.mean(expected), rel=1e-9)
        found = psnr(view, second, data_range=data_range)
        assert found == pytest.approx(np.mean(10 * np.log10(data_range**2 / errors)), rel=1e-12)


@pytest.mark.parametrize("metric", [psnr, pooled_psnr, ssim])
@pytest.mark.parametrize(
    ("changed", "data_range", "words"),
    [
        (np.full((3, 20, 24, 3), np.nan), 1.0, "not finite"),
        (clip(), 0.0, "data_range is a positive number"),
        (clip(), float("nan"), "data_range is a positive number"),
    ],
)
def test_a_clip_without_a_score_is_an_error_and_not_the_best_score(metric, changed, data_range, words):
    with pytest.raises(ValueError, match=words):
        metric(changed, changed, data_range=data_range)
    with pytest.raises(ValueError, match="hold no pixels"):
        metric(clip()[:0], clip()[:0], data_range=255)


def test_more_noise_scores_lower_on_both():
    reference = clip(3).astype(float)
    noise = np.random.default_rng(4).normal(size=reference.shape)
    levels = [reference + sigma * noise for sigma in (1, 5, 25)]
    for metric in (psnr, ssim):
        scores = [metric(reference, level, data_range=255) for level in levels]
        assert scores == sorted(scores, reverse=True)


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="one shape"):
        psnr(clip(), clip(shape=(2, 20, 24, 3)), data_range=255)
    with pytest.raises(ValueError, match="11x11"):
        ssim(clip(shape=(1, 10, 30, 3)), clip(shape=(1, 10, 30, 3)), data_range=255)


def test_a_still_clip_has_no_motion_energy_and_a_flashing_one_has_all():
    still = np.repeat(clip(shape=(1, 8, 8, 3)), 5, axis=0)
    flashing = np.stack([np.full((8, 8, 3), 255 * (t % 2), dtype=np.uint8) for t in range(6)])
    assert motion_energy(still) == 0
    assert motion_energy(flashing) == 1
    assert (temporal_flickering(still), temporal_flickering(flashing)) == (1, 0)
    assert motion_energy(still[:1]) == 0
