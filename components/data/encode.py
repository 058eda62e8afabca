"""Stages `encode@images` and `encode@videos`: kept clips to latents, distinct captions to text embeddings.

The plan (which clip goes into which shard) follows from the clip table alone, so a run that was killed goes
on at the first shard that is missing, and any number of processes make the same shards.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pyarrow import RecordBatch

from components.artifacts import StagePaths, fresh_folder
from components.data.balance import balance
from components.data.buckets import Bucket, buckets_of
from components.data.clips import Clip, read_clips
from components.data.config import EncodeConfig
from components.data.encode_pictures import write_pictures
from components.data.encode_pieces import EncodeJob, LatentPiece
from components.data.encode_plan import Encoders, Plan, Shape
from components.data.encode_workers import make_shards
from components.data.latent_shards import ShardRecord, read_record, read_text_record, sample_parts
from components.data.latents import Family, LatentManifest, TextTable
from components.data.outcomes import Outcome
from components.data.reasons import SourceReason
from components.data.samples import NO_SAMPLES, SampleTable, write_samples
from components.data.shards import Shard
from components.data.store import Manifest as ClipTable
from components.errors import ContractError, DataQualityError, UserError
from components.params import runtime_of, store_of
from components.report import Report
from components.storage import Place

INPUTS = ("clips", "videos", "autoencoder", "text")
# by another run, or with more `runtime.item_seconds`
MAY_BE_HAD = (SourceReason.UNREACHABLE, Outcome.TIMED_OUT)


@dataclass
class _Ledger:
    """What became of every clip. A clip counts as encoded when any bucket got a row of it."""

    encoded: set[str] = field(default_factory=set)
    reasons: dict[str, str] = field(default_factory=dict)  # clip -> why a bucket could not take it

    def left_out(self) -> dict[str, int]:
        """Clips that no bucket took, by reason."""
        reasons = (reason for clip, reason in self.reasons.items() if clip not in self.encoded)
        return dict(sorted(Counter(reasons).items()))


@dataclass(frozen=True)
class _Made:
    """What lies in the store after an encode."""

    families: tuple[Family, ...]
    texts: tuple[Shard, ...] = ()
    samples: SampleTable = NO_SAMPLES


def run(config: EncodeConfig, paths: StagePaths) -> Report:
    """Encode every kept clip into every bucket it serves; without `precompute`, only say which these are.

    Raises `UserError` for buckets that the autoencoder cannot divide, `DataQualityError` when no clip can be
    encoded.
    """
    stage = paths.checkpoints.name
    clips = read_clips(paths.input("clips"), root=paths.root, videos=paths.place("videos"))
    if config.scored_captions and not all(clip.scored_caption for clip in clips):
        raise UserError(
            f"{stage}: `scored_captions` is set, and the clips have no captions with scores; name scores in"
            " `caption.suffixes`, or leave `scored_captions` out"
        )
    encoders = Encoders.of(paths.input("autoencoder"), paths.input("text"))
    plan = Plan.of(config, paths, encoders, clips)
    ledger = _Ledger(reasons=dict(plan.unserved))
    made = _encode(plan, paths, ledger) if config.precompute else _leave_to_training(plan, ledger)
    balanced = balance(stage, "clips", len(clips), len(ledger.encoded), ledger.left_out())
    if not made.families:
        raise DataQualityError(
            f"{stage}: none of {len(clips)} clips could be encoded ({ledger.left_out()});"
            " add smaller resolutions or fewer frames to `encode`, or lower the filters"
        )
    manifest = LatentManifest(
        contract=encoders.contract,
        text=TextTable(encoders.text.digest, encoders.text_width, encoders.text.max_tokens, made.texts),
        fps=config.fps,
        families=made.families,
        counts={
            "clips": len(clips),
            "encoded": len(ledger.encoded),
            "left_out": len(clips) - len(ledger.encoded),
        },
        samples=made.samples,
        selections=_selections(paths, clips),
        origin={name: _relative(paths.place(name), paths.root) for name in INPUTS},
        encode=config.model_dump(mode="json"),
    )
    manifest.write(paths.output("latents"))
    with fresh_folder(paths.output("pictures")) as folder:
        write_pictures(manifest, clips, paths, folder)
    return _report(stage, config, manifest, balanced, len(plan.captions))


def _encode(plan: Plan, paths: StagePaths, ledger: _Ledger) -> _Made:
    """Make all shards and the table of their samples."""
    runtime, store = runtime_of(paths.root), store_of(paths.root)
    models = (paths.input("autoencoder"), paths.input("text"))
    job = EncodeJob(store, *models, plan.config, runtime.limits("encode"))
    pieces, texts = plan.latent_pieces(), plan.text_pieces()
    every = [piece for found in pieces.values() for piece in found]
    make_shards(every, job, runtime.encode_workers, title="latents")
    make_shards(texts, job, runtime.encode_workers, title="captions")
    families, filled = [], dict[str, list[LatentPiece]]()
    for bucket, found in pieces.items():
        shards = {
            piece: record.shard for piece, record in _entered(found, store, ledger) if record.shard.rows
        }
        if shards:
            families.append(_family(bucket, plan.shapes[bucket], tuple(shards.values())))
            filled[families[-1].name] = list(shards)

    marks = plan.marks()

    def parts() -> Iterator[RecordBatch]:
        records = {name: (_record(p, store) for p in found) for name, found in filled.items()}
        return sample_parts(records, marks)

    samples = write_samples(store, plan.folder, parts)
    written = tuple(shard for piece in texts if (shard := read_text_record(store, piece.file)))
    return _Made(tuple(families), written, samples)


def _selections(paths: StagePaths, clips: Sequence[Clip]) -> dict[str, int]:
    """How many of the clips are in each selection that the filter knows."""
    known = ClipTable.read(paths.input("clips")).notes.get("filter", {})
    counts = Counter(name for clip in clips for name in clip.selections)
    return {name: counts[name] for name in sorted({*known, *counts})}


def _leave_to_training(plan: Plan, ledger: _Ledger) -> _Made:
    """The buckets and how many clips each has, for training that encodes as it goes."""
    for found in plan.members.values():
        ledger.encoded.update(clip.clip_id for clip in found)
    families = (
        _family(bucket, plan.shapes[bucket], (), rows=len(found))
        for bucket, found in plan.members.items()
        if found
    )
    return _Made(tuple(families))


def _entered(
    pieces: Sequence[LatentPiece], store: Place, ledger: _Ledger
) -> Iterator[tuple[LatentPiece, ShardRecord]]:
    """The records of a bucket's shards; the ledger learns what they hold."""
    for piece in pieces:
        record = _record(piece, store)
        ledger.encoded.update(record.members.clip_ids)
        ledger.reasons.update(dict(record.left_out))
        yield piece, record


def _record(piece: LatentPiece, store: Place) -> ShardRecord:
    record = read_record(store, piece.file)
    if record is None:
        raise ContractError(f"{store / piece.file} went away while it was in use; run the stage again")
    return record


def _family(bucket: Bucket, shape: Shape, shards: tuple[Shard, ...], rows: int | None = None) -> Family:
    return Family(
        key=bucket.key,
        resolution=bucket.resolution,
        aspect=bucket.aspect,
        frames=bucket.frames,
        height=bucket.height,
        width=bucket.width,
        latent_shape=shape,
        rows=sum(shard.rows for shard in shards) if rows is None else rows,
        shards=shards,
    )


def _relative(place: Place, root: Path) -> str:
    if isinstance(place, Path) and place.is_relative_to(root):
        return place.relative_to(root).as_posix()
    return str(place)


def _report(
    stage: str, config: EncodeConfig, manifest: LatentManifest, balanced: dict[str, int], captions: int
) -> Report:
    filled = {(family.resolution, family.key): family.rows for family in manifest.families}
    empty = [b for b in buckets_of(config.buckets) if (b.resolution, b.key) not in filled]
    what = "rows" if config.precompute else "clips, encoded as training asks for them"
    left_out = {name: count for name, count in balanced.items() if name not in ("in", "kept")}
    again = sum(left_out.get(name, 0) for name in MAY_BE_HAD)
    return Report(
        stage,
        metrics={"rows": sum(filled.values()), "captions": captions},
        counts=manifest.counts,
        reasons=left_out,
        notes=[
            *(
                f"bucket {resolution} {key}: {rows} {what}"
                for (resolution, key), rows in sorted(filled.items())
            ),
            *(f"bucket {bucket.resolution} {bucket.key}: no clip" for bucket in empty),
            *([f"{again} clips were not had in time: `reelforge stage {stage} --force`"] if again else []),
        ],
        balance={"clips": balanced},
    )
