"""Which work a checkpoint belongs to: the parameters and inputs that its stage's result follows from."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from components.artifacts import StagePaths, sha256_of, sha256_of_json

FORMAT = 2
# what may change while a run is paused
HARMLESS = {
    "log_steps",
    "checkpoint_steps",
    "keep_last_n",
    "zero_stage",
    "activation_checkpointing",
    "sequence_parallel",
    "sentinel",
    "validation",
    "preview",
}
IDENTIFIED_BY_CLIPS = {"videos"}  # the clip table holds their digests; they may be terabytes
SHOWN = 6  # differences in a message


@dataclass(frozen=True)
class Fingerprint:
    """Equal for equal work. The contract (parameters, and digests of inputs) is kept to say what differs."""

    digest: str
    contract: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, compare=False)

    def differences(self, other: Mapping[str, Any]) -> str:
        """What another checkpoint's contract says otherwise, in a sentence."""
        ours, theirs = dict(_flat(self.contract)), dict(_flat(other))
        keys = [key for key in sorted({*ours, *theirs}) if ours.get(key) != theirs.get(key)]
        said = [f"{key} was {theirs.get(key)} and is {ours.get(key)}" for key in keys[:SHOWN]]
        more = f", and {len(keys) - SHOWN} more" if len(keys) > SHOWN else ""
        return ", ".join(said) + more if keys else "its format is another"


def fingerprint_of(config: BaseModel, paths: StagePaths) -> Fingerprint:
    """Of a stage: its parameters, and digests of its inputs and of the weights it is told to start from."""
    parameters = config.model_dump(mode="json", exclude=HARMLESS)
    read = {name: paths.input(name) for name in paths.inputs if name not in IDENTIFIED_BY_CLIPS}
    start = parameters.get("start_weights")
    if start is not None:
        read["start_weights"] = paths.root / start
    inputs = {name: _digest(path) for name, path in read.items()}
    contract = {"parameters": parameters, "inputs": inputs}
    return Fingerprint(sha256_of_json({"format": FORMAT, **contract}), contract)


def _digest(path: Path) -> str:
    return sha256_of(path) if path.exists() else "missing"


def _flat(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flat(inner, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, value
