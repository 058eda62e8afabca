"""How well clips survive the autoencoder: PSNR and SSIM on clips (T, H, W, C), frame by frame."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

Clip = NDArray[np.float64]  # (T, H, W, C)
PSNR_CAP = 100.0  # dB; equal frames would be infinite and hide every other frame in a mean
SSIM_SIGMA, SSIM_RADIUS = 1.5, 5  # Wang et al. 2004: an 11x11 Gaussian window
K1, K2 = 0.01, 0.03


def psnr(reference: ArrayLike, other: ArrayLike, *, data_range: float) -> float:
    """Peak signal-to-noise ratio in dB: mean over frames, each at most 100 dB.

    Clips are (T, H, W, C) of any number type; `data_range` is the greatest difference that is possible, 255 for uint8.
    Raises `ValueError` for clips of different shapes, without pixels or with values that are not finite.
    """
    first, second = _pair(reference, other, data_range)
    errors = np.square(first - second).mean(axis=(1, 2, 3))
    return float(np.mean([_decibel(error, data_range) for error in errors]))


def pooled_psnr(reference: ArrayLike, other: ArrayLike, *, data_range: float) -> float:
    """PSNR in dB of the error pooled over all frames, at most 100 dB. Raises `ValueError` as `psnr` does."""
    first, second = _pair(reference, other, data_range)
    return _decibel(float(np.square(first - second).mean()), data_range)


def ssim(reference: ArrayLike, other: ArrayLike, *, data_range: float) -> float:
    """Structural similarity: mean over pixels, channels and frames.

    Gaussian weights (sigma 1.5, 11x11), population covariance, only windows that lie inside the frame; per
    channel. Raises `ValueError` as `psnr` does, and for frames smaller than the window.
    """
    first, second = _pair(reference, other, data_range)
    side = 2 * SSIM_RADIUS + 1
    if min(first.shape[1:3]) < side:
        raise ValueError(f"SSIM needs frames of at least {side}x{side} pixels, not {first.shape[1:3]}")
    one, two = (K1 * data_range) ** 2, (K2 * data_range) ** 2
    mean_first, mean_second = _blurred(first), _blurred(second)
    variance_first = _blurred(first * first) - mean_first**2
    variance_second = _blurred(second * second) - mean_second**2
    covariance = _blurred(first * second) - mean_first * mean_second
    luminance = (2 * mean_first * mean_second + one) / (mean_first**2 + mean_second**2 + one)
    structure = (2 * covariance + two) / (variance_first + variance_second + two)
    return float((luminance * structure).mean())


def _decibel(error: float, data_range: float) -> float:
    if error == 0:
        return PSNR_CAP
    return min(PSNR_CAP, float(10 * np.log10(data_range**2 / error)))


def _pair(reference: ArrayLike, other: ArrayLike, data_range: float) -> tuple[Clip, Clip]:
    first, second = np.asarray(reference, dtype=np.float64), np.asarray(other, dtype=np.float64)
    if first.shape != second.shape or first.ndim != 4:
        raise ValueError(
            f"two clips (T, H, W, C) of one shape are needed, not {first.shape} and {second.shape}"
        )
    if not first.size:
        raise ValueError(f"clips of {first.shape} hold no pixels")
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise ValueError("clips have pixels that are not finite")
    if not (np.isfinite(data_range) and data_range > 0):
        raise ValueError(f"data_range is a positive number, 255 for uint8 and 1 for [0, 1], not {data_range}")
    return first, second


def _blurred(clip: Clip) -> Clip:
    """Gaussian means over the windows that lie inside the frame: (T, H - 10, W - 10, C)."""
    offsets = np.arange(-SSIM_RADIUS, SSIM_RADIUS + 1)
    weights = np.exp(-0.5 * (offsets / SSIM_SIGMA) ** 2)
    weights /= weights.sum()
    for axis in (1, 2):
        length = clip.shape[axis] - 2 * SSIM_RADIUS
        shifted = (np.take(clip, range(start, start + length), axis=axis) for start in range(len(weights)))
        clip = sum((weight * part for weight, part in zip(weights, shifted, strict=True)), np.zeros(()))
    return clip
