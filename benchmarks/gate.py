"""How often the gate errs, on clips with known damage, beside the usual rule "the smaller FVD wins".

    python benchmarks/gate.py [--trials 200] [--samples 128 256 512]

The extractor of params.yaml is trained as its stage trains it. A model is a set of procedural clips of its own seeds:
`equal` has nothing wrong with it, the others show their last frame too early. The champion is never damaged. Each trial
draws both sides and the real clips anew; the table gives the share of trials in which the candidate would have become
champion. For equal models that is the rate of false promotions, for damaged ones of misses; the limit is 7 %.
"""

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from threadpoolctl import threadpool_limits

REPOSITORY = Path(__file__).parents[1]
sys.path.insert(0, str(REPOSITORY))

from components.data.pool import Limits  # noqa: E402
from components.evaluation.classifier import Extractor  # noqa: E402
from components.evaluation.extractor import train  # noqa: E402
from components.evaluation.frechet import frechet_distance  # noqa: E402
from components.evaluation.procedural import draw_clips  # noqa: E402
from components.params import Params  # noqa: E402
from components.registry.policy.statistics import Array, permutation_test  # noqa: E402

LIMIT = 0.07
FROZEN = {"equal": 0.0, "last eighth frozen": 1 / 8, "last quarter frozen": 1 / 4}
POOL = 3072
SEED = 7_000_003  # of clips that neither the extractor nor any footage uses


def freeze(clips: np.ndarray, share: float) -> np.ndarray:
    """Show the frame at which the frozen share begins until the end."""
    start = round(clips.shape[1] * (1 - share)) - 1
    frozen = clips.copy()
    if share:
        frozen[:, start:] = clips[:, start : start + 1]
    return frozen


def trial(
    rng: np.random.Generator, real: Array, damaged: Array, samples: int, alpha: float
) -> tuple[bool, bool]:
    """Whether the gate, and the plain comparison, promote a candidate drawn from `damaged`."""
    order = rng.permutation(len(real))
    parts = order[: 2 * samples], order[2 * samples : 3 * samples], order[3 * samples : 4 * samples]
    reference, champion, candidate = real[parts[0]], real[parts[1]], damaged[parts[2]]
    test = permutation_test(
        candidate,
        champion,
        partial(frechet_distance, reference),
        permutations=99,
        seed=int(rng.integers(2**31)),
    )
    return test.p_better <= alpha, test.candidate <= test.champion


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; 1 where a rate is above the limit at the largest number of samples."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--samples", type=int, nargs="+", default=[128, 256, 512])
    asked = parser.parse_args(arguments)
    params = Params.load(REPOSITORY / "params.yaml")
    config, alpha = params.extractor, params.gate.alpha
    draw = partial(
        draw_clips, frames=config.frames, size=config.size, limits=Limits(params.runtime.workers, 60)
    )
    extractor = Extractor(train(draw(config.seed, count=config.clips), config)[0], "")
    clips = draw(SEED, count=max(POOL, 4 * max(asked.samples))).clips
    features = {
        name: extractor.read(freeze(clips, share)).features.astype(float) for name, share in FROZEN.items()
    }
    table = Table("candidate", *(f"N={n}: gate / smaller FVD wins" for n in asked.samples))
    worst = 0.0
    with threadpool_limits(1):
        for name, rows in features.items():
            cells = []
            for samples in asked.samples:
                rng = np.random.default_rng([samples, *name.encode()])
                wins = [trial(rng, features["equal"], rows, samples, alpha) for _ in range(asked.trials)]
                gate, plain = np.mean(wins, axis=0)
                cells.append(f"{gate:.3f} / {plain:.3f}")
                if samples == max(asked.samples):
                    worst = max(worst, float(gate))
            table.add_row(name, *cells)
    Console().print(table)
    print(f"largest rate at N={max(asked.samples)}: {worst:.3f}, limit {LIMIT} (ratio {worst / LIMIT:.2f})")
    return int(worst > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
