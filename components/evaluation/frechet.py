"""Distances between two sets of features, each set as one distribution.

Everything is float64 and centred before it is squared: in float32, or as E[xx'] - mm', the error reaches the
size of the distances themselves. `scipy.linalg.sqrtm` is not used: its result turned complex or wrong in
several releases, and the trace of the root is known without the root.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

Features = NDArray[np.float64]  # (N, D)
BLOCK = 1024  # rows of a kernel matrix that are in memory at a time


def frechet_distance(real: ArrayLike, generated: ArrayLike, *, ddof: int = 1) -> float:
    """Frechet distance of two sets (N, D) and (M, D), each as a Gaussian.

    |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)). With centred rows A and B over sqrt(N - ddof), S1 = A'A and
    S2 = B'B, and the trace of the root is the nuclear norm of AB'. That needs no square root of a matrix, and
    is exact for fewer rows than columns. Raises `ValueError` for sets of one row (or no more than `ddof`), of
    different width, or with values that are not finite.
    """
    return frechet_from(real, ddof=ddof)(generated)


def frechet_from(real: ArrayLike, *, ddof: int = 1) -> Callable[[ArrayLike], float]:
    """`frechet_distance` from one real set, which is taken apart once for all sets that it is asked about."""
    first = _gaussian(_checked(real, "real"), ddof)

    def distance(generated: ArrayLike) -> float:
        second = _gaussian(_checked(generated, "generated"), ddof)
        _check_widths(len(first.mean), len(second.mean))
        shift = first.mean - second.mean
        overlap = np.linalg.svd(first.root @ second.root.T, compute_uv=False).sum()
        return max(float(shift @ shift + first.spread + second.spread - 2 * overlap), 0.0)

    return distance


def kernel_distance(real: ArrayLike, generated: ArrayLike) -> float:
    """Unbiased squared maximum mean discrepancy with the kernel (x.y / D + 1)^3; may be below zero.

    Unlike the Frechet distance its mean does not depend on the number of samples. (Binkowski et al. 2018, eq.
    3.) Of two sets of one size up to 1,000 it is what StyleGAN's means over random subsets come to, as each of
    those holds all rows then. Raises `ValueError` as `frechet_distance` does.

    About the common mean c, with x = c + u, the kernel is (s + t)^3 of s = c.c / D + 1 and the rest t. What s^3 and
    the part of t that is linear in a row contribute to the three means cancels exactly and is left out: computed,
    it would drown the distance of features far from zero in rounding.
    """
    first, second = _pair(real, generated)
    centre = np.concatenate([first, second]).mean(axis=0)
    within_first, within_second = (
        _mean_kernel(x - centre, x - centre, centre, True) for x in (first, second)
    )
    return within_first + within_second - 2 * _mean_kernel(first - centre, second - centre, centre, False)


def even_and_odd(rows: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Two halves of a set (N, ...), for the distance that two equal models would have."""
    return rows[::2], rows[1::2]


def _pair(real: ArrayLike, generated: ArrayLike) -> tuple[Features, Features]:
    first, second = _checked(real, "real"), _checked(generated, "generated")
    _check_widths(first.shape[1], second.shape[1])
    return first, second


def _check_widths(first: int, second: int) -> None:
    if first != second:
        raise ValueError(f"features of width {first} and {second} cannot be compared")


def _checked(features: ArrayLike, name: str) -> Features:
    array: Features = np.asarray(features, dtype=np.float64)
    if array.ndim != 2 or not array.shape[1]:
        raise ValueError(f"{name} features must be (N, D), not {array.shape}")
    if len(array) < 2:
        raise ValueError(f"{len(array)} {name} sample has no covariance; at least 2 are needed")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} features are not finite")
    return array


class _Gaussian(NamedTuple):
    """`root`: R with R'R = covariance, of at most D rows; `spread`: the trace of the covariance."""

    mean: Features
    root: Features
    spread: float


def _gaussian(features: Features, ddof: int) -> _Gaussian:
    """The root is the centred rows, or their QR factor where there are more rows than columns."""
    if len(features) <= ddof:
        raise ValueError(f"{len(features)} samples have no covariance with ddof {ddof}; give more of them")
    mean = features.mean(axis=0)
    root: Features = (features - mean) / np.sqrt(len(features) - ddof)
    if len(root) > root.shape[1]:
        root = cast(Features, np.linalg.qr(root, mode="r"))  # its type is told as that of the other modes
    return _Gaussian(mean, root, float(np.square(root).sum()))


def _mean_kernel(first: Features, second: Features, centre: Features, within: bool) -> float:
    """Mean over pairs of rows about `centre`, without the terms that cancel; `within` one set, of unequal rows."""
    width = len(centre)
    scale = centre @ centre / width + 1
    along_first, along_second = first @ centre / width, second @ centre / width
    total = 0.0
    for start in range(0, len(first), BLOCK):
        rows = slice(start, start + BLOCK)
        product = first[rows] @ second.T / width
        rest = along_first[rows, None] + along_second + product
        kernel = rest * rest * (rest + 3 * scale) + 3 * scale**2 * product
        total += float(kernel.sum() - (np.trace(kernel, offset=start) if within else 0.0))
    return total / (len(first) * (len(second) - within))
