"""Evaluated models made up for tests: features from a normal distribution, scores with a known mean."""

from dataclasses import replace
from typing import Any

import numpy as np

from components.evaluation.frechet import frechet_distance
from components.evaluation.record import Distance, EvaluationRecord, Metric
from components.registry.config import FloorsConfig, GateConfig
from components.registry.policy.contestant import Contestant

FEATURES = 8
SAMPLES = 64


def contestant(name: str, *, seed: int, damage: float = 0.0, samples: int = SAMPLES) -> Contestant:
    """A model whose feature distribution is `damage` standard deviations away from the reference."""
    generator = np.random.default_rng(seed)
    generated = generator.normal(size=(samples, FEATURES))
    generated[:, 0] += damage
    reference = np.random.default_rng(10_000).normal(size=(2 * SAMPLES, FEATURES))
    distance = frechet_distance(reference, generated)
    metrics = {
        "toy_fvd": Metric(distance, "toy_fvd@test", False, samples, distance=Distance("toy", "frechet")),
        "toy_fvd_untrained": Metric(200.0, "toy_fvd@test", False, samples),
        "colour_accuracy": mean_of(np.ones(samples), "colour_accuracy@test", chance=0.25),
        "motion_accuracy": mean_of(np.ones(samples), "motion_accuracy@test", chance=0.25),
        "motion_energy": mean_of(np.full(samples, 0.02), "motion_energy@test"),
        "validation_loss": mean_of(np.full(samples, 0.3), "validation_loss@test", higher_is_better=False),
        "reconstruction_psnr": mean_of(np.full(samples, 25.0), "psnr@test", unit="dB"),
    }
    prompts = [f"prompt {index}" for index in range(samples)]
    record = EvaluationRecord(name, {"frames": 9}, samples, prompts, metrics)
    return Contestant(record, {"toy/generated": generated, "toy/reference": reference})


def mean_of(
    scores: np.ndarray,
    identity: str,
    *,
    higher_is_better: bool = True,
    unit: str = "",
    chance: float | None = None,
) -> Metric:
    per_item = {f"{index:03d}": float(score) for index, score in enumerate(scores)}
    mean = float(np.mean(scores))
    return Metric(mean, identity, higher_is_better, len(scores), unit, chance, per_item=per_item)


def with_metric(side: Contestant, name: str, **changes: Any) -> Contestant:
    """The same model with one metric changed."""
    metrics = {**side.record.metrics, name: replace(side.record.metrics[name], **changes)}
    return replace(side, record=replace(side.record, metrics=metrics))


def without(side: Contestant, name: str) -> Contestant:
    """The same model, not evaluated for one metric."""
    metrics = {known: metric for known, metric in side.record.metrics.items() if known != name}
    return replace(side, record=replace(side.record, metrics=metrics))


def with_features(side: Contestant, generated: np.ndarray, reference: np.ndarray | None = None) -> Contestant:
    """The same model with other features of its videos."""
    known = side.features["toy/reference"] if reference is None else reference
    return replace(side, features={"toy/generated": generated, "toy/reference": known})


FLOORS = FloorsConfig(
    max_toy_fvd_share_of_untrained=0.5,
    min_colour_accuracy=3.0,
    min_motion_accuracy=3.0,
    min_motion_energy=0.002,
    min_reconstruction_psnr=20.0,
)
POLICY = GateConfig(
    baseline="baseline",
    primary="toy_fvd",
    min_samples=64,
    alpha=0.05,
    permutations=99,
    bootstrap=200,
    seed=5,
    margins={"colour_accuracy": 0.1, "validation_loss": 0.05},
    frozen="frozen_baseline",
    frozen_margins={},
    floors=FLOORS,
)


def shifted(seed: int, damage: float) -> Contestant:
    """A model whose features are off by `damage` standard deviations along one axis."""
    return contestant(f"model-{seed}-{damage}", seed=seed, damage=damage)
