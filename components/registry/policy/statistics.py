"""The tests behind a verdict: may a difference between candidate and champion be chance, and how large may it be?

All are paired: the two models made their samples from the same prompts with the same noise, which cuts the
spread of a difference by a factor of two to five. The Frechet distance is not a mean, so its difference gets a
permutation test, and a jackknife for a bound (the percentile bootstrap is biased for it: duplicates shrink the
sample); means get a bootstrap.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Distance = Callable[[Array], float]
Parts = Mapping[str, Mapping[str, float]]
Total = Callable[[dict[str, float]], float]
GROUPS = 20  # of a jackknife


@dataclass(frozen=True)
class PermutationResult:
    """Difference candidate - champion of a distance (smaller is better), and how often chance does as well."""

    candidate: float
    champion: float
    p_better: float  # share of arm swaps with a difference at least as favourable to the candidate
    p_worse: float  # the same for the champion

    @property
    def difference(self) -> float:
        return self.candidate - self.champion


@dataclass(frozen=True)
class MeanDifference:
    """Mean of paired differences with one-sided bounds: each bound holds with confidence 1 - alpha."""

    mean: float
    lower: float
    upper: float


def permutation_test(
    candidate: Array, champion: Array, distance: Distance, *, permutations: int, seed: int
) -> PermutationResult:
    """Swap the two arms of random pairs and see how often the difference of distances is as large.

    Rows of `candidate` and `champion` (N, D) belong together: one prompt, one noise. p = (1 + b) / (1 + B),
    which is never zero and keeps the level exactly.
    """
    if candidate.shape != champion.shape:
        raise ValueError(f"pairs need equal shapes, not {candidate.shape} and {champion.shape}")
    generator = np.random.default_rng(seed)
    scores = distance(candidate), distance(champion)
    observed = scores[0] - scores[1]
    as_good = as_bad = 1
    for _ in range(permutations):
        swapped = generator.random(len(candidate))[:, None] < 0.5
        difference = distance(np.where(swapped, champion, candidate)) - distance(
            np.where(swapped, candidate, champion)
        )
        as_good += difference <= observed
        as_bad += difference >= observed
    total = permutations + 1
    return PermutationResult(scores[0], scores[1], as_good / total, as_bad / total)


def jackknife_error(candidate: Array, champion: Array, distance: Distance) -> float:
    """Standard error of the difference of two distances; infinite for fewer than 20 pairs.

    The delete-a-group jackknife over pairs of rows (N, D): no row is there twice, so no sample is smaller than it
    looks. Unlike the permutations it does not take the two models for equal.
    """
    if len(candidate) < GROUPS:
        return float("inf")
    group = np.arange(len(candidate)) % GROUPS
    left = np.array(
        [distance(candidate[group != index]) - distance(champion[group != index]) for index in range(GROUPS)]
    )
    return float(np.sqrt((GROUPS - 1) * left.var()))


def mean_difference(differences: Array, *, alpha: float, replicates: int, seed: int) -> MeanDifference:
    """Percentile bootstrap over pairs: `differences` (N,) is candidate - champion per prompt."""
    differences = np.asarray(differences, dtype=np.float64)
    generator = np.random.default_rng(seed)
    picks = generator.integers(0, len(differences), size=(replicates, len(differences)))
    means = differences[picks].mean(axis=1)
    lower, upper = np.quantile(means, [alpha, 1 - alpha])
    return MeanDifference(float(differences.mean()), float(lower), float(upper))


def composite_difference(
    candidate: Parts, champion: Parts, total: Total, *, alpha: float, replicates: int, seed: int
) -> MeanDifference:
    """Percentile bootstrap of a total that is made of several means: prompts are drawn anew within each part.

    The whole formula is computed again in every replicate, on the same prompts for both models. `candidate` and
    `champion` map part -> prompt -> score over equal prompts.
    """
    generator = np.random.default_rng(seed)
    names = sorted(candidate)
    pairs = {
        name: np.array([(candidate[name][key], champion[name][key]) for key in sorted(candidate[name])])
        for name in names
    }
    # (replicates, 2)
    drawn = {
        name: rows[generator.integers(0, len(rows), size=(replicates, len(rows)))].mean(axis=1)
        for name, rows in pairs.items()
    }

    def gain(means: Mapping[str, Array]) -> float:
        sides = [total({name: float(means[name][side]) for name in names}) for side in (0, 1)]
        return sides[0] - sides[1]

    gains = [gain({name: rows[index] for name, rows in drawn.items()}) for index in range(replicates)]
    lower, upper = np.quantile(gains, [alpha, 1 - alpha])
    observed = gain({name: rows.mean(axis=0) for name, rows in pairs.items()})
    return MeanDifference(observed, float(lower), float(upper))
