"""The file between evaluation and gate: `record.json` in the evaluation's folder, beside `features.safetensors`.

Every number carries how it was measured (`identity`) and what it was measured on (`per_item`), because a mean
alone can neither be compared with another model's nor given an interval. The features file holds, for every
extractor, `<extractor>/generated` (N, D), whose row i is `prompts[i]`, and `<extractor>/reference` (M, D), float32.
"""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from components.artifacts import read_json, write_json
from components.errors import ContractError

RECORD_FILE = "record.json"
FEATURES_FILE = "features.safetensors"
OF_THE_MODEL = ("sampler", "guidance_rescale")  # of a protocol's `generation`: every model brings its own


@dataclass(frozen=True)
class Distance:
    """How a metric follows from two sets of features, `<features>/generated` and `<features>/reference` of the file."""

    features: str
    kind: Literal["frechet", "kernel"]
    ddof: int = 1  # of the covariance in a Frechet distance


@dataclass(frozen=True)
class Metric:
    """One number about a model. Two with different identities must not be compared.

    `per_item`: prompt or clip id -> score, where the metric is a mean of them; empty for a distance, which is computed
    again from the features of `distance` when two models are compared.
    `parts`: of VBench's Total, dimension -> prompt -> score.
    A metric that no prompt asks for (no colour named: no colour accuracy) has value None and n 0.
    `interval`: 95 % bounds of the value, where they can be given honestly. `chance`: what guessing would score.
    `own`: digest of the model's own parts that the identity names, as the autoencoder of a loss on latents. Two that
    differ in it cannot be made comparable by another evaluation.
    """

    value: float | None  # None: could not be computed
    identity: str
    higher_is_better: bool
    n: int
    unit: str = ""
    chance: float | None = None
    interval: tuple[float, float] | None = None
    per_item: dict[str, float] = field(default_factory=dict)
    distance: Distance | None = None
    parts: dict[str, dict[str, float]] = field(default_factory=dict)
    own: str = ""

    def is_taken_as(self, other: "Metric") -> bool:
        """True where both were measured in one way, up to what is the models' own."""
        return self.identity == other.identity or self.is_of_other_parts(other)

    def is_of_other_parts(self, other: "Metric") -> bool:
        """True where both are measured on parts of their models, and these differ."""
        return bool(self.own and other.own) and self.own != other.own


@dataclass(frozen=True)
class Sample:
    """A generated video kept for people: what was asked for, and what the classifier saw in it."""

    file: str  # relative to the record
    prompt: str
    expected: dict[str, str | None]  # attribute -> value in the prompt
    judged: dict[str, str | None]  # attribute -> value the classifier reads from the video


@dataclass(frozen=True)
class Reconstruction:
    """A real clip beside what the autoencoder makes of it; files relative to the record."""

    original: str
    decoded: str
    psnr: float  # dB


@dataclass(frozen=True)
class EvaluationRecord:
    """Everything the gate and the report know about an evaluated model."""

    model_sha256: str  # of the pipeline folder
    protocol: dict[str, Any]  # frames, size, counts, seeds, sampler, digests of extractor and reference clips
    samples: int
    prompts: list[str]
    metrics: dict[str, Metric]
    gallery: list[Sample] = field(default_factory=list)
    reconstructions: list[Reconstruction] = field(default_factory=list)

    @property
    def asked(self) -> dict[str, Any]:
        """The protocol without what the model brings with it: of any other model the same can be asked."""
        generation = self.protocol.get("generation", {})
        return {**self.protocol, "generation": {k: v for k, v in generation.items() if k not in OF_THE_MODEL}}

    @property
    def sampling(self) -> str:
        """How the model makes its videos, in words."""
        generation = self.protocol.get("generation", {})
        rescale = generation.get("guidance_rescale")
        return f"{generation.get('sampler', 'unknown')}{f', guidance rescale {rescale:g}' if rescale else ''}"

    def write(self, folder: Path) -> None:
        write_json(folder / RECORD_FILE, asdict(self))

    @classmethod
    def read(cls, folder: Path) -> "EvaluationRecord":
        """Raises `ContractError` for a file that an older version of the evaluation wrote."""
        path = folder / RECORD_FILE
        raw = read_json(path)
        try:
            return cls(
                **{
                    **raw,
                    "metrics": {name: _metric(metric) for name, metric in raw["metrics"].items()},
                    "gallery": [Sample(**sample) for sample in raw["gallery"]],
                    "reconstructions": [Reconstruction(**pair) for pair in raw["reconstructions"]],
                }
            )
        except (KeyError, TypeError) as error:
            message = (
                f"{path} is not an evaluation record of this version ({error}); run `dvc repro evaluate`"
            )
            raise ContractError(message) from None


def _metric(raw: dict[str, Any]) -> Metric:
    interval, distance = raw["interval"], raw["distance"]
    read = {
        "interval": None if interval is None else (interval[0], interval[1]),
        "distance": None if distance is None else Distance(**distance),
    }
    return Metric(**{**raw, **read})
