"""What the nodes of a training job must reach. No part of `params.yaml`: it changes no result, only what may start.

The thresholds belong to a kind of machine and lie beside its manifests (`infra/kubernetes/base/training`).
"""

from pathlib import Path
from typing import Literal, Self

import yaml
from pydantic import (
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    model_validator,
)

from components.config import Section
from components.errors import UserError
from components.params import explain


class GpuConfig(Section):
    """Each GPU of a node."""

    name: str  # a part of the name that the driver gives, such as H100
    per_node: PositiveInt
    min_free_gb: PositiveFloat  # below it another process, perhaps a dead one, still holds memory
    max_uncorrected_errors: NonNegativeInt  # double-bit ECC errors since the driver was loaded


class ComputeConfig(Section):
    """A square matrix product on each process: bf16 on a GPU, fp32 on a CPU."""

    size: PositiveInt
    repeats: PositiveInt
    min_tflops: NonNegativeFloat


class AllReduceConfig(Section):
    """One sum of fp32 numbers over all processes."""

    megabytes: PositiveInt
    repeats: PositiveInt
    min_gb_per_second: NonNegativeFloat  # bus bandwidth, see `measure.bus_bandwidth`


class StorageConfig(Section):
    """Reading what training will read."""

    place: str  # a folder, or a URL that fsspec opens
    megabytes: PositiveInt  # per process
    min_gb_per_second: NonNegativeFloat  # of a node, all its processes together


class PreflightConfig(Section):
    """All thresholds of one kind of machine."""

    device: Literal["cuda", "cpu"]
    timeout_seconds: PositiveInt  # for a peer that does not come or stops answering
    gpu: GpuConfig | None = None
    compute: ComputeConfig
    all_reduce: AllReduceConfig
    storage: StorageConfig

    @model_validator(mode="after")
    def _gpu_is_described(self) -> Self:
        if (self.device == "cuda") != (self.gpu is not None):
            raise ValueError("section gpu goes with device: cuda, and only with it")
        return self

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read and check the file. Raises `UserError` naming each bad key."""
        if not path.is_file():
            raise UserError(f"{path} is missing; infra/kubernetes/base/training/preflight.yaml is an example")
        try:
            return cls.model_validate(yaml.safe_load(path.read_text()))
        except yaml.YAMLError as error:
            raise UserError(f"{path} is not valid YAML: {error}") from None
        except ValidationError as error:
            raise UserError("\n".join(f"{path}: {line}" for line in explain(cls, error))) from None
