"""`params.yaml` and the recipes: one schema, one field per stage."""

import difflib
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import (
    BaseModel,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
)

from components.adaptation.config import AdaptConfig
from components.autoencoder.config import AutoencoderConfig
from components.block_cache import BlockCache
from components.config import HIDDEN_TAG, Section
from components.data.config import (
    CaptionConfig,
    DedupConfig,
    EncodeConfig,
    FilterConfig,
    FootageConfig,
    IngestConfig,
    ScoreConfig,
    SplitConfig,
    ValidateConfig,
)
from components.data.outcomes import Limits
from components.denoiser.config import PixArtConfig, TrainConfig
from components.errors import ParamsError
from components.evaluation.config import EvaluateConfig, ExtractorConfig
from components.registry.config import GateConfig
from components.storage import Place, place_of
from components.text.config import TextEncoderConfig

GIGABYTE = 1e9
# work that is done item by item, in workers
Pool = Literal["footage", "ingest", "split", "score", "caption", "dedup", "encode", "evaluate", "report"]


class EncodeFamilies(Section):
    images: EncodeConfig  # with the 2D autoencoder: what PixArt and the first adaptation steps see
    videos: EncodeConfig  # with the video autoencoder


class RuntimeConfig(Section):
    """What may change without changing a result; never a DVC parameter."""

    workers: PositiveInt = 2  # processes that read videos
    item_seconds: PositiveFloat = 60  # a file that takes longer is named and left out
    cluster: str | None = None  # of Ray: ray://HOST:10001, HOST:6379 or auto; null is this machine
    concurrency: dict[Pool, PositiveInt] = Field(default={})  # workers of a stage, where not `workers`
    gpus: dict[Pool, NonNegativeFloat] = Field(
        default={}
    )  # of each worker of a stage on the cluster; 0.25 is a quarter
    cluster_seconds: PositiveFloat = 60  # for the first worker there to start
    encode_workers: PositiveInt = 1  # processes that encode, each with a GPU of its own where there are some
    retries: int = 1  # of a stage that failed, in the flows
    caption_endpoint: str | None = (
        None  # of `caption.vision`: an OpenAI-compatible server, http://host:8000/v1
    )
    caption_requests: PositiveInt = 8  # that are under way at a time
    caption_seconds: PositiveFloat = 120  # that one may take
    caption_retries: NonNegativeInt = 5  # of one that failed, with growing pauses
    store: str = "store"  # where tables and latents lie: a folder, or s3://bucket/prefix
    cache: str = "store/cache"  # local folder for what was fetched from s3://
    cache_gb: PositiveFloat = 20  # that it may hold
    stage_hours: PositiveFloat = 24  # time limit of a stage in the flows
    min_free_gb: PositiveFloat = 3  # disk a run needs before it starts

    def limits(self, pool: Pool) -> Limits:
        """Workers of a stage: how many, where, and how long one item may take them."""
        return Limits(
            self.concurrency.get(pool, self.workers),
            self.item_seconds,
            self.cluster,
            self.gpus.get(pool, 0.0),
            self.cluster_seconds,
        )

    def block_cache(self, root: Path) -> BlockCache:
        """The cache of what is fetched from `s3://`."""
        return BlockCache((root / self.cache).resolve(), int(self.cache_gb * GIGABYTE))

    def store_place(self, root: Path) -> Place:
        """The folder or prefix that tables and latents lie below."""
        return place_of(self.store, root, self.block_cache(root))


class Params(Section):
    """Everything a run is made from."""

    recipe: str
    footage: FootageConfig
    ingest: IngestConfig
    split: SplitConfig
    score: ScoreConfig
    filter: FilterConfig
    caption: CaptionConfig
    dedup: DedupConfig
    validation: ValidateConfig
    text_encoder: TextEncoderConfig
    autoencoder: AutoencoderConfig
    encode: EncodeFamilies
    pixart: PixArtConfig
    adapt: AdaptConfig
    train: TrainConfig
    extractor: ExtractorConfig
    evaluate: EvaluateConfig
    gate: GateConfig
    runtime: RuntimeConfig = RuntimeConfig()

    @classmethod
    def load(cls, path: Path) -> "Params":
        """Read and check a parameter file. Raises `ParamsError` naming each bad key and the nearest valid one."""
        if not path.is_file():
            raise ParamsError(f"{path} is missing; `reelforge recipes use demo` writes one")
        try:
            raw = yaml.safe_load(path.read_text())
        except yaml.YAMLError as error:
            raise ParamsError(f"{path} is not valid YAML: {error}") from None
        if not isinstance(raw, dict):
            raise ParamsError(f"{path} must be a mapping of sections, not {type(raw).__name__}")
        try:
            return cls.model_validate(raw)
        except ValidationError as error:
            raise ParamsError("\n".join(f"{path}: {line}" for line in explain(cls, error))) from None

    def section(self, dotted: str) -> Any:
        """The section at a dotted path, as `train.stage3`."""
        node: Any = self
        for key in dotted.split("."):
            node = getattr(node, key)
        return node


def runtime_of(root: Path) -> RuntimeConfig:
    """How the workspace is run; the defaults where it has no parameters. Raises `ParamsError`."""
    path = root / "params.yaml"
    if not path.is_file():
        return RuntimeConfig()
    return _runtime_in(path.resolve(), path.stat().st_mtime_ns)


@lru_cache(maxsize=8)
def _runtime_in(path: Path, _changed: int) -> RuntimeConfig:
    return Params.load(path).runtime


def place_in(root: Path, uri: str) -> Place:
    """Where a parameter says that something lies: a path relative to the workspace, or `s3://`."""
    return place_of(uri, root, runtime_of(root).block_cache(root))


def store_of(root: Path) -> Place:
    """Where the tables and latents of a workspace lie: `runtime.store`. Raises `ParamsError`."""
    return runtime_of(root).store_place(root)


def _fields_at(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """Names that are valid where `location` points into `model`; empty where it is no section."""
    current: Any = model
    for key in location:
        field = current.model_fields.get(key) if _is_section(current) else None
        current = field.annotation if field else None
    return list(current.model_fields) if _is_section(current) else []


def _is_section(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def explain(model: type[BaseModel], error: ValidationError) -> list[str]:
    """One sentence per problem: dotted path, what is wrong, and for an unknown key the nearest valid one."""
    lines = []
    for problem in error.errors():
        location = problem["loc"]
        path = ".".join(str(key) for key in location if not str(key).startswith(HIDDEN_TAG))
        if problem["type"] != "extra_forbidden":
            lines.append(f"{path}: {problem['msg']} (got {problem['input']!r})")
            continue
        valid = _fields_at(model, location[:-1])
        nearest = difflib.get_close_matches(str(location[-1]), valid, n=1, cutoff=0.0)
        hint = f"; did you mean `{nearest[0]}`?" if nearest else ""
        lines.append(f"{path}: unknown parameter{hint} Valid here: {', '.join(valid)}")
    return lines
