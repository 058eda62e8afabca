"""The Frechet distance that infinitely many samples would have, from a line through subsets of several sizes.

At any finite number the distance is biased upwards by about a constant over N, and the constant depends on the model
(Chong and Forsyth 2020): two models with different constants cannot be ordered by it. The intercept can.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from components.evaluation.frechet import frechet_from

SIZES = 15
SMALLEST_SHARE = 4  # sizes run from N / 4 to N
FEWEST = 16


@dataclass(frozen=True)
class Extrapolation:
    """`value` at 1/N = 0; `slope` per 1/N; `residual`: root mean square distance of the points from the line."""

    value: float
    slope: float
    residual: float


def frechet_infinity(
    real: ArrayLike, generated: ArrayLike, *, seed: int, sizes: int = SIZES, ddof: int = 1
) -> Extrapolation:
    """Fit distance = value + slope / N over subsets of the generated features (N, D), drawn without replacement.

    The real set stays whole, so its own bias stays in the value. Raises `ValueError` for fewer than 16 samples, or
    fewer than two sizes.
    """
    rows = np.asarray(generated)
    if len(rows) < FEWEST or sizes < 2:
        raise ValueError(
            f"{len(rows)} samples and {sizes} sizes: at least {FEWEST} samples and 2 sizes are needed for a line"
        )
    generator = np.random.default_rng(seed)
    counts = np.linspace(len(rows) // SMALLEST_SHARE, len(rows), sizes).astype(int)
    distance = frechet_from(real, ddof=ddof)
    distances = [distance(rows[generator.permutation(len(rows))[:count]]) for count in counts]
    slope, value = np.polyfit(1 / counts, distances, 1)
    residual = np.array(distances) - (value + slope / counts)
    return Extrapolation(float(value), float(slope), float(np.sqrt(np.mean(residual**2))))
