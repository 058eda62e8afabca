"""`params.yaml` and the recipes: one schema, one field per stage."""

import difflib
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, get_args

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
    BatchesConfig,
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
from components.denoiser.system_config import CausalConfig, HdVilaConfig, WaltConfig
from components.errors import ParamsError
from components.evaluation.config import EvaluateConfig, ExtractorConfig
from components.ladder.config import SurvivalConfig
from components.registry.config import GateConfig
from components.runtime import profile_store
from components.storage import Place, place_of
from components.text.config import TextEncoderConfig
from components.training.config import LaunchConfig

GIGABYTE = 1e9
# work that is done item by item, in workers
Pool = Literal["footage", "ingest", "split", "score", "caption", "dedup", "encode", "evaluate", "report"]


class EncodeFamilies(Section):
    images: EncodeConfig  # with the 2D autoencoder: what PixArt and the first adaptation steps see
    videos: EncodeConfig  # with the video autoencoder


class CandidateConfig(Section):
    """What is packaged, evaluated and gated: the end of a system's stages. Paths below the workspace.

    The transformer decides which system a run trains; its sections must be there.
    """

    transformer: str
    autoencoder: str  # that decodes what the transformer makes
    latents: str  # that the transformer was trained on


LOCAL_STORE = "store"


class RuntimeConfig(Section):
    """What may change without changing a result; never a DVC parameter."""

    workers: PositiveInt = 2  # processes that read videos
    item_seconds: PositiveFloat = 60  # a file that takes longer is named and left out
    cluster: str | None = None  # of Ray: ray://HOST:10001, HOST:6379 or auto; null is this machine
    concurrency: dict[Pool, PositiveInt] = Field(default={})  # workers of a stage, where not `workers`
    # of each worker of a stage on the cluster; 0.25 is a quarter
    gpus: dict[Pool, NonNegativeFloat] = Field(default={})
    cluster_seconds: PositiveFloat = 60  # for the first worker there to start
    encode_workers: PositiveInt = 1  # processes that encode, each with a GPU of its own where there are some
    retries: int = 1  # of a stage that failed, in the flows
    caption_endpoint: str | None = (
        None  # of `caption.vision`: an OpenAI-compatible server, http://host:8000/v1
    )
    caption_requests: PositiveInt = 8  # that are under way at a time
    caption_seconds: PositiveFloat = 120  # that one may take
    caption_retries: NonNegativeInt = 5  # of one that failed, with growing pauses
    store: str | None = None  # where tables and latents lie: a folder, or s3://; None: see `store_uri`
    cache: str = "store/cache"  # local folder for what was fetched from s3://
    cache_gb: PositiveFloat = 20  # that it may hold
    registered_file_mb: NonNegativeFloat = 64  # larger files of a model are registered by address and sha256
    stage_hours: PositiveFloat = 24  # time limit of a stage in the flows
    min_free_gb: PositiveFloat = 3  # disk a run needs before it starts
    hang_minutes: PositiveFloat = 10  # a training process in which no batch begins for so long is ended
    launch: LaunchConfig = LaunchConfig()  # of the training stages

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

    def store_uri(self, root: Path) -> str:
        """What is said here, else by the profile of a deployed platform, else the folder `store`."""
        return self.store or profile_store(root) or LOCAL_STORE

    def store_place(self, root: Path) -> Place:
        """The folder or prefix that tables and latents lie below."""
        return place_of(self.store_uri(root), root, self.block_cache(root))


class Params(Section):
    """Everything a run is made from. The sections of the systems that it does not train may be left out."""

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
    autoencoder: AutoencoderConfig | None = None  # this and the next four: Open-Sora 1.2
    encode: EncodeFamilies | None = None
    pixart: PixArtConfig | None = None
    adapt: AdaptConfig | None = None
    train: TrainConfig | None = None
    walt: WaltConfig | None = None
    hdvila: HdVilaConfig | None = None
    causal: CausalConfig | None = None
    candidate: CandidateConfig
    extractor: ExtractorConfig
    ladder: SurvivalConfig
    evaluate: EvaluateConfig
    gate: GateConfig
    runtime: RuntimeConfig = RuntimeConfig()

    @classmethod
    def load(cls, path: Path) -> "Params":
        """Read and check a parameter file. Raises `ParamsError` naming each bad key and the nearest valid one."""
        if not path.is_file():
            raise ParamsError(f"{path} is missing; `reelforge recipes use demo` writes one")
        return cls.of(read_sections(path), path)

    @classmethod
    def of(cls, raw: Mapping[str, Any], origin: Path) -> "Params":
        """Check what was read. Raises `ParamsError` naming each bad key of `origin`, and references to nothing."""
        try:
            params = cls.model_validate(raw)
        except ValidationError as error:
            raise ParamsError("\n".join(f"{origin}: {line}" for line in explain(cls, error))) from None
        if problems := list(_dangling(params)):
            raise ParamsError("\n".join(f"{origin}: {line}" for line in problems))
        return params

    def section(self, dotted: str) -> Any:
        """The section at a dotted path, as `train.stage3`. Raises `ParamsError` where the recipe leaves it out."""
        node: Any = self
        for key in dotted.split("."):
            if node is None:
                break
            node = getattr(node, key)
        if node is None and dotted.partition(".")[0] in SYSTEM_SECTIONS:
            raise ParamsError(
                f"the recipe `{self.recipe}` has no section `{dotted}`: it is of a system that this recipe does not"
                " train; `reelforge recipes list` names those that do"
            )
        return node


def read_sections(path: Path) -> dict[str, Any]:
    """The sections of a parameter file as they stand there. Raises `ParamsError` where it is no such file."""
    try:
        raw = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise ParamsError(f"{path} is not valid YAML: {error}") from None
    if not isinstance(raw, dict):
        raise ParamsError(f"{path} must be a mapping of sections, not {type(raw).__name__}")
    return raw


def laid_over(base: Mapping[str, Any], overlay: Mapping[str, Any]) -> dict[str, Any]:
    """The values of `overlay` in the place of those of `base`, section by section; others stay."""
    changed = {
        key: laid_over(inner, value)
        if isinstance(value, Mapping) and isinstance(inner := base.get(key), Mapping)
        else value
        for key, value in overlay.items()
    }
    return {**base, **changed}


def _dangling(params: Params) -> Iterator[str]:
    """What training stages ask of the data that the data sections do not make."""
    known = ", ".join(params.filter.selections) or "none"
    for path, batches in _batches_in(params):
        if batches.selection is not None and batches.selection not in params.filter.selections:
            yield (
                f"{path}.selection: there is no selection `{batches.selection}`; `filter.selections` defines {known}."
                " Name one of these, define it there, or leave `selection` out to learn from all clips"
            )
        if batches.captions == "scored" and not params.caption.suffixes:
            yield (
                f"{path}.captions: `scored` asks for captions with scores; name the scores in `caption.suffixes` (and"
                " set `scored_captions: true` in the section that encodes them)"
            )


def _batches_in(section: BaseModel, path: str = "") -> Iterator[tuple[str, BatchesConfig]]:
    """All sections of batches, with their dotted paths."""
    for name, value in section:
        here = f"{path}.{name}" if path else name
        if isinstance(value, BatchesConfig):
            yield here, value
        elif isinstance(value, BaseModel):
            yield from _batches_in(value, here)


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
    """Where the tables and latents of a workspace lie: `runtime.store`, or the profile's. Raises `ParamsError`."""
    return runtime_of(root).store_place(root)


SYSTEM_SECTIONS = frozenset(name for name, field in Params.model_fields.items() if not field.is_required())


def _fields_at(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """Names that are valid where `location` points into `model`; empty where it is no section."""
    current: Any = model
    for key in location:
        field = current.model_fields.get(key) if _is_section(current) else None
        current = _section_in(field.annotation) if field else None
    return list(current.model_fields) if _is_section(current) else []


def _section_in(annotation: Any) -> Any:
    """The section of an optional one."""
    inside = [part for part in get_args(annotation) if part is not type(None)]
    return inside[0] if len(inside) == 1 else annotation


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
