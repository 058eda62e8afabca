"""How large a margin must be: from evaluations of one model that differ in nothing but their seeds (A/A runs).

A margin below the noise of a metric refuses equal models; twice the deviation of A/A runs is the least that is fair.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from components.errors import UserError
from components.evaluation.record import EvaluationRecord

FACTOR = 2.0


@dataclass(frozen=True)
class Noise:
    """One metric over A/A runs: mean, deviation between runs, and the margin that follows."""

    metric: str
    runs: int
    mean: float
    deviation: float

    @property
    def margin(self) -> float:
        return FACTOR * self.deviation


def noise_of(records: Sequence[EvaluationRecord]) -> list[Noise]:
    """The noise of every metric that all runs have. Raises `UserError` for runs that are no A/A runs."""
    if len(records) < 2:
        raise UserError(
            "the deviation between runs needs at least two evaluations of the model, with other seeds"
        )
    models = {record.model_sha256 for record in records}
    if len(models) > 1:
        raise UserError(
            f"A/A runs are of one model; these are of {', '.join(sorted(m[:12] for m in models))}"
        )
    seeds = [record.protocol.get("generation", {}).get("seed") for record in records]
    if len(set(seeds)) < len(seeds):
        raise UserError(f"A/A runs differ in their seed; these have evaluate.seed {seeds}")
    found = []
    for name in sorted(set.intersection(*(set(record.metrics) for record in records))):
        values = [record.metrics[name].value for record in records]
        if None in values:
            continue
        numbers = np.array(values, dtype=np.float64)
        found.append(Noise(name, len(numbers), float(numbers.mean()), float(numbers.std(ddof=1))))
    return found
