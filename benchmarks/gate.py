"""How often the gate errs, on clips with known damage, beside the usual rule "the smaller FVD wins".

    python benchmarks/gate.py [--trials 200] [--samples 256 512] [--permutations 39]

The extractor of params.yaml is trained as its stage trains it, and the gate is the one of params.yaml, of which the
distance decides: everything else is equal for both sides. A model is a set of procedural clips of its own seeds:
`equal` has nothing wrong with it, the others show their last frame too early. The champion is never damaged. Each trial
draws both sides and the real clips anew from one pool, never the same clip for two of them; the table gives the share
of trials in which the candidate would have become champion, then the share in which the gate rejects it. For equal
models the first is the rate of false promotions, for damaged ones of misses; the limit is 7 %.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
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
from components.evaluation.record import Distance, EvaluationRecord, Metric  # noqa: E402
from components.params import Params  # noqa: E402
from components.registry.config import FloorsConfig, GateConfig  # noqa: E402
from components.registry.gate import decide  # noqa: E402
from components.registry.policy.contestant import Contestant  # noqa: E402
from components.registry.policy.statistics import Array  # noqa: E402
from components.registry.policy.verdict import Decision  # noqa: E402

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


@dataclass(frozen=True)
class Outcome:
    """What the gate said, and whether the rule "the smaller FVD wins" would promote the candidate."""

    decision: Decision
    smaller: bool


def policy_of(params: Params, samples: int, permutations: int) -> GateConfig:
    """The gate's, with the distance alone: of a set of clips there is no loss, no autoencoder, no prompt."""
    floors = FloorsConfig(
        max_toy_fvd_share_of_untrained=None,
        min_colour_accuracy=None,
        min_motion_accuracy=None,
        min_motion_energy=0.0,
        min_reconstruction_psnr=0.0,
    )
    changes = {"primary": "toy_fvd", "margins": {}, "floors": floors, "min_samples": samples}
    return params.gate.model_copy(update={**changes, "permutations": permutations})


def model(name: str, made: Array, reference: Array) -> Contestant:
    """A model that made clips with these features."""
    count = len(made)
    fine = {floor: Metric(30.0, floor, True, count) for floor in ("motion_energy", "reconstruction_psnr")}
    distance = Distance("toy", "frechet")
    toy_fvd = Metric(frechet_distance(reference, made), "toy_fvd", False, count, distance=distance)
    record = EvaluationRecord(name, {}, count, [], {"toy_fvd": toy_fvd, **fine})
    return Contestant(record, {"toy/generated": made, "toy/reference": reference})


def trial(rng: np.random.Generator, real: Array, damaged: Array, policy: GateConfig) -> Outcome:
    """A candidate drawn from `damaged` against a champion drawn from `real`."""
    samples = policy.min_samples
    order = rng.permutation(len(real))
    reference, mine, other = np.split(order[: 4 * samples], [2 * samples, 3 * samples])
    candidate = model("candidate", damaged[mine], real[reference])
    champion = model("champion", real[other], real[reference])
    verdict = decide(candidate, champion, policy.model_copy(update={"seed": int(rng.integers(2**31))}))
    return Outcome(verdict.decision, candidate.value("toy_fvd") <= champion.value("toy_fvd"))


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; 1 where a rate is above the limit at the largest number of samples."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--samples", type=int, nargs="+", default=[256, 512])
    parser.add_argument("--permutations", type=int, default=39)
    asked = parser.parse_args(arguments)
    params = Params.load(REPOSITORY / "params.yaml")
    config = params.extractor
    draw = partial(
        draw_clips, frames=config.frames, size=config.size, limits=Limits(params.runtime.workers, 60)
    )
    extractor = Extractor(train(draw(config.seed, count=config.clips), config)[0], "")
    clips = draw(SEED, count=max(POOL, 4 * max(asked.samples))).clips
    features = {
        name: extractor.read(freeze(clips, share)).features.astype(float) for name, share in FROZEN.items()
    }
    table = Table("candidate", *(f"N={n}: promoted, rejected / smaller FVD wins" for n in asked.samples))
    worst = 0.0
    with threadpool_limits(1):
        for name, rows in features.items():
            cells = []
            for samples in asked.samples:
                rng = np.random.default_rng([samples, *name.encode()])
                policy = policy_of(params, samples, asked.permutations)
                outcomes = [trial(rng, features["equal"], rows, policy) for _ in range(asked.trials)]
                promoted, rejected = (
                    np.mean([outcome.decision is decision for outcome in outcomes])
                    for decision in (Decision.PROMOTE, Decision.REJECT)
                )
                plain = np.mean([outcome.smaller for outcome in outcomes])
                cells.append(f"{promoted:.3f}, {rejected:.3f} / {plain:.3f}")
                if samples == max(asked.samples):
                    worst = max(worst, float(promoted))
            table.add_row(name, *cells)
    Console().print(table)
    print(f"largest rate at N={max(asked.samples)}: {worst:.3f}, limit {LIMIT} (ratio {worst / LIMIT:.2f})")
    return int(worst > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
