"""One side of the comparison: the record and the features of an evaluated model, read from its evaluation."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from components.artifacts import read_json
from components.errors import ContractError
from components.evaluation.record import FEATURES_FILE, RECORD_FILE, Distance, EvaluationRecord, Metric
from components.registry.policy.statistics import Array


@dataclass(frozen=True)
class Contestant:
    """An evaluated model, with the features of the record's file by name."""

    record: EvaluationRecord
    features: Mapping[str, Array]

    @classmethod
    def read(cls, folder: Path) -> "Contestant":
        """Raises `ContractError` if the folder is no evaluation."""
        from safetensors.numpy import load_file

        path = folder / FEATURES_FILE
        if not path.is_file():
            raise ContractError(f"{path} is missing: `evaluate` writes it; run `dvc repro evaluate`")
        features = {name: values.astype(np.float64) for name, values in load_file(path).items()}
        return cls(EvaluationRecord.read(folder), features)

    @property
    def model_sha256(self) -> str:
        return self.record.model_sha256

    def usable(self, name: str) -> Metric | None:
        """The metric, if it is there and finite."""
        metric = self.record.metrics.get(name)
        return metric if metric and metric.value is not None and math.isfinite(metric.value) else None

    def generated(self, distance: Distance) -> Array:
        """(N, D): row i is prompt i."""
        return self.features[f"{distance.features}/generated"]

    def reference(self, distance: Distance) -> Array:
        """(M, D): real clips."""
        return self.features[f"{distance.features}/reference"]

    def lacks(self, distance: Distance) -> str:
        """What is wrong with the features of a distance; empty where nothing is."""
        for part in ("generated", "reference"):
            rows = self.features.get(f"{distance.features}/{part}")
            if rows is None:
                return f"has no {part} features of {distance.features}"
            if not np.isfinite(rows).all():
                return f"has {part} features of {distance.features} that are not finite"
        return ""

    def metric(self, name: str) -> Metric:
        """A metric that was found usable before."""
        metric = self.usable(name)
        assert metric is not None, f"{name} was not checked"
        return metric

    def value(self, name: str) -> float:
        value = self.metric(name).value
        assert value is not None, f"{name} was not checked"
        return value


def read_champion(folder: Path) -> Contestant | None:
    """The baseline folder's champion; None where it says that there is none."""
    if read_json(folder / RECORD_FILE).get("champion", "") is None:
        return None
    return Contestant.read(folder)
