"""The Inception Score of class probabilities: how sure a classifier is of each sample, and how varied it finds them.

Salimans et al. 2016. For video the classifier is C3D, finetuned on UCF-101 (Saito et al. 2020). The score depends on
the number of samples per split, is blind to collapse within a class, and says nothing of real clips: both numbers
belong to its identity.
"""

from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

TOLERANCE = 1e-3  # of the sum of a row


def inception_score(probabilities: ArrayLike, *, splits: int) -> tuple[float, float]:
    """Mean and standard deviation (population) over `splits` of exp(mean KL(p(y|x) || p(y))).

    probabilities: (N, classes), rows that sum to 1, in the order in which they are split: shuffle samples that are
    sorted. A probability of zero adds nothing. Split i holds rows i N / splits to (i + 1) N / splits, as published.
    Raises `ValueError` for rows that are no distributions, or fewer samples than splits.
    """
    rows = _distributions(probabilities)
    if not 1 <= splits <= len(rows):
        raise ValueError(f"{len(rows)} samples cannot be divided into {splits} splits")
    bounds = [index * len(rows) // splits for index in range(splits + 1)]
    scores = [_score(rows[start:end]) for start, end in pairwise(bounds)]
    return float(np.mean(scores)), float(np.std(scores))


def _score(rows: NDArray[np.float64]) -> float:
    marginal = rows.mean(axis=0)
    present = rows > 0  # then the marginal is positive too
    ratio = np.divide(rows, marginal, out=np.ones_like(rows), where=present)
    divergence = (rows * np.log(ratio)).sum(axis=1)
    return float(np.exp(divergence.mean()))


def _distributions(probabilities: ArrayLike) -> NDArray[np.float64]:
    rows = np.asarray(probabilities, dtype=np.float64)
    if rows.ndim != 2 or not rows.size:
        raise ValueError(f"probabilities must be (N, classes), not {rows.shape}")
    if not np.isfinite(rows).all() or rows.min() < 0:
        raise ValueError("probabilities must be finite and not negative; give softmax outputs, not logits")
    worst = float(np.abs(rows.sum(axis=1) - 1).max())
    if worst > TOLERANCE:
        raise ValueError(f"rows must sum to 1, one is off by {worst:.3g}; give softmax outputs, not logits")
    normalised: NDArray[np.float64] = rows / rows.sum(axis=1, keepdims=True)
    return normalised
