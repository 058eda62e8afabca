"""The numerics and the feature extraction of the evaluation, against the straightforward way, in one run.

    python benchmarks/evaluation.py [--samples 2048] [--rounds 3]

Frechet distance: ours (the nuclear norm of a product of roots) against `scipy.linalg.sqrtm` of the product of the
covariances, at the width of I3D's logits and of Inception's features. Features: the extractor in batches against a loop
over single clips. Seconds are of the processor, of all threads, the median of the rounds; ratios are ours over the
other, below 1 is cheaper; the greatest difference of the results stands beside them.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy import linalg

REPOSITORY = Path(__file__).parents[1]
sys.path.insert(0, str(REPOSITORY))

from components.evaluation.classifier import ClassifierConfig, Extractor, VideoClassifier  # noqa: E402
from components.evaluation.frechet import frechet_distance  # noqa: E402

WIDTHS = (400, 2048)
CLIPS = 256


def by_square_root(real: np.ndarray, generated: np.ndarray) -> float:
    """The distance as most implementations have it."""
    one, two = np.cov(real, rowvar=False), np.cov(generated, rowvar=False)
    root = linalg.sqrtm(one @ two).real
    shift = real.mean(0) - generated.mean(0)
    return float(shift @ shift + np.trace(one) + np.trace(two) - 2 * np.trace(root))


def timed(work: Callable[[], Any], rounds: int) -> tuple[float, Any]:
    """Median seconds of the processor, and the result."""
    seconds, result = [], None
    for _ in range(rounds):
        started = time.process_time()
        result = work()
        seconds.append(time.process_time() - started)
    return statistics.median(seconds), result


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--samples", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args(arguments)
    table = Table("what", "ours", "other", "ratio", "difference")
    rng = np.random.default_rng(0)
    for width in WIDTHS:
        real, made = rng.normal(size=(asked.samples, width)), rng.normal(size=(asked.samples, width)) * 1.1
        ours, found = timed(lambda: frechet_distance(real, made), asked.rounds)  # noqa: B023  # called at once
        other, expected = timed(lambda: by_square_root(real, made), asked.rounds)  # noqa: B023
        _row(table, f"Frechet, d={width}, N={asked.samples}", ours, other, abs(found - expected) / expected)
    extractor = Extractor(VideoClassifier(ClassifierConfig((8, 24, 48, 64), 9, 32)), "")
    clips = rng.integers(0, 256, (CLIPS, 9, 96, 96, 3), dtype=np.uint8)
    ours, together = timed(lambda: extractor.read(clips).features, asked.rounds)
    other, apart = timed(
        lambda: np.concatenate([extractor.read(clip[None]).features for clip in clips]), asked.rounds
    )
    _row(table, f"features of {CLIPS} clips", ours, other, float(np.abs(together - apart).max()))
    Console().print(table)
    return 0


def _row(table: Table, what: str, ours: float, other: float, difference: float) -> None:
    table.add_row(what, f"{ours:.3f} s", f"{other:.3f} s", f"{ours / other:.2f}", f"{difference:.1e}")


if __name__ == "__main__":
    sys.exit(main())
