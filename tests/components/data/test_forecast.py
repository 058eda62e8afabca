"""The forecast is what the loader then draws; it is told from the clip table alone."""

import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from components.artifacts import read_json, write_json
from components.data import store
from components.data.buckets import assign, available_frames
from components.data.config import BatchesConfig, BucketsConfig, EncodeConfig
from components.data.forecast import Request, Row, forecast, of_video_training, read_clips, requests_of
from components.data.latent_shards import Members, sample_parts, write_latents, write_text
from components.data.latents import Family, LatentManifest, TextTable
from components.data.samples import write_samples
from components.data.windows import window_starts
from components.errors import ContractError, UserError
from components.params import Params

ROOT = Path(__file__).parents[3]
ENCODE = EncodeConfig(
    buckets=BucketsConfig(resolutions=("32px", "48px"), frames=(1, 5, 9), aspects=("1:1", "2:3"), multiple=8),
    fps=8,
    windows=3,
    batch=4,
    shard_mb=1,
)
BATCHES = BatchesConfig(
    seed=1,
    small_bucket="repeat",
    buckets={"48px": {1: (0.5, 64), 9: ((0.5, 0.8), 4)}, "32px": {1: (1.0, 8), 9: (1.0, 16)}},
)
REQUEST = Request("train@stage1", BATCHES, ENCODE)
SIZES = ((64, 64), (32, 32), (40, 60), (20, 20))
CLIPS = 60


def clip_table(root):
    generator = np.random.default_rng(5)
    sizes = [SIZES[index % len(SIZES)] for index in range(CLIPS)]
    seconds = generator.choice([0.5, 0.75, 1.125, 1.5, 3.0], CLIPS)
    table = pa.table(
        {
            "clip_id": [f"{index:016x}" for index in range(CLIPS)],
            "height": pa.array([height for height, _ in sizes], pa.int32()),
            "width": pa.array([width for _, width in sizes], pa.int32()),
            "start_seconds": [0.25] * CLIPS,
            "end_seconds": (0.25 + seconds).tolist(),
            "frames": pa.array([10] * CLIPS, pa.int64()),
            "split": ["validation" if index % 10 == 9 else "train" for index in range(CLIPS)],
            "kept": [index % 7 != 3 for index in range(CLIPS)],
        }
    )
    store.create(root, "clips", table, "dedup").write(root / "artifacts/clips/dedup.json")
    return table.to_pylist()


def make_latents(root, rows):
    """What `encode` would make of the kept clips: a row per window of every bucket a clip serves."""
    members = {}
    for row in rows:
        frames = available_frames(row["end_seconds"] - row["start_seconds"], ENCODE.fps)
        for bucket in (
            assign(row["height"], row["width"], frames, ENCODE.buckets).buckets if row["kept"] else ()
        ):
            for start in window_starts(frames, bucket.frames, ENCODE.windows):
                members.setdefault(bucket, []).append((row["clip_id"], row["split"], start))
    families, records, folder = [], {}, "latents/videos"
    for bucket, found in members.items():
        file = f"{folder}/{bucket.resolution}-{bucket.key}.safetensors"
        ids, splits, windows = (list(column) for column in zip(*found, strict=True))
        rows = Members(ids, splits, windows, ["plain"] * len(found), [0] * len(found))
        record = write_latents(root / "store", file, np.zeros((len(found), 1, 1, 1, 1), np.float16), rows)
        place = (bucket.resolution, bucket.aspect, bucket.frames, bucket.height, bucket.width)
        families.append(Family(bucket.key, *place, (1, 1, 1, 1), len(found), (record.shard,)))
        records[families[-1].name] = [record]
    text = write_text(
        root / "store", f"{folder}/text.safetensors", np.zeros((1, 2, 2), np.float16), np.ones((1, 2), bool)
    )
    manifest = root / "artifacts/latents/videos.json"
    samples = write_samples(root / "store", folder, lambda: sample_parts(records))
    LatentManifest({}, TextTable("t", 2, 2, (text,)), 8, tuple(families), {}, samples).write(manifest)
    return manifest


def test_the_forecast_is_what_the_loader_opens(tmp_path):
    from components.data.loader import LatentBatches

    rows = clip_table(tmp_path)
    batches = LatentBatches(make_latents(tmp_path, rows), root=tmp_path, config=BATCHES)
    opened = sorted(
        (family.resolution, family.frames, family.aspect, stream.kept, stream.batch)
        for family, stream in zip(batches.families, batches.schedule.streams, strict=True)
    )
    found = forecast(read_clips(tmp_path), REQUEST)
    assert opened == sorted((r.resolution, r.frames, r.aspect, r.kept, r.batch) for r in found.rows)
    assert found.batches == batches.schedule.batches_before(1)


@pytest.mark.parametrize("kind", ["loader", "published"])
def test_every_training_clip_is_used_or_has_a_reason(tmp_path, kind):
    rows = clip_table(tmp_path)
    found = forecast(read_clips(tmp_path), REQUEST, kind)
    assert found.clips == sum(row["kept"] and row["split"] == "train" for row in rows)
    assert found.used + sum(found.unused.values()) == found.clips
    assert found.used > 0


def test_the_published_walk_uses_a_clip_once(tmp_path):
    clip_table(tmp_path)
    found = forecast(read_clips(tmp_path), REQUEST, "published")
    assert sum(row.kept for row in found.rows) == found.used


@pytest.mark.parametrize(
    ("policy", "kept", "batch", "expected"),
    [
        ("repeat", 70, 32, (2, 6, 0, False)),
        ("repeat", 10, 32, (1, 0, 22, False)),
        ("refuse", 10, 32, (1, 0, 0, True)),
        ("merge", 10, 32, (10 / 32, 0, 0, False)),
        ("repeat", 64, 32, (2, 0, 0, False)),
    ],
)
def test_a_row_says_what_its_policy_drops_and_repeats(policy, kept, batch, expected):
    row = Row("32px", 9, "1:1", kept, kept, batch, policy)
    assert (row.batches, row.dropped, row.repeated, row.refused) == expected


def test_a_bucket_that_was_asked_for_and_gets_nothing_is_named(tmp_path):
    clip_table(tmp_path)
    batches = BATCHES.model_copy(update={"buckets": {**BATCHES.buckets, "720p": {9: (1.0, 2)}}})
    found = forecast(read_clips(tmp_path), Request("train@stage1", batches, ENCODE))
    assert found.nothing == (("720p", 9),)


def test_it_is_asked_before_the_set_is_finished(tmp_path):
    with pytest.raises(ContractError, match="split"):
        read_clips(tmp_path)
    clip_table(tmp_path)
    manifest = read_json(tmp_path / "artifacts/clips/dedup.json")
    (tmp_path / "artifacts/clips/dedup.json").rename(tmp_path / "artifacts/clips/split.json")
    write_json(tmp_path / "artifacts/clips/split.json", manifest)
    assert len(read_clips(tmp_path)) == 54  # nothing is filtered yet: all clips for training


@pytest.mark.parametrize("recipe", ["params.yaml", "recipes/open_sora_1_2.yaml"])
def test_every_training_stage_of_a_recipe_can_be_asked_about(tmp_path, recipe):
    clip_table(tmp_path)
    requests = requests_of(Params.load(ROOT / recipe))
    assert {"pixart", "adapt@masks", "train@stage3"} <= {request.stage for request in requests}
    for request in requests:
        assert math.isfinite(forecast(read_clips(tmp_path), request).batches)


@pytest.mark.parametrize(
    ("recipe", "stages"),
    [
        ("demo", ["train@stage1", "train@stage2", "train@stage3"]),
        ("hdvila_tiny", ["hdvila@stage1", "hdvila@stage2"]),
        ("causal_tiny", ["causal@stage1", "causal@stage2"]),
        (
            "walt_tiny",
            [f"walt@{name}" for name in ("base", "wide", "super_resolution_1", "super_resolution_2")],
        ),
    ],
)
def test_the_stages_that_train_on_video_are_those_of_the_recipes_system(recipe, stages):
    params = Params.load(ROOT / f"recipes/{recipe}.yaml")
    assert [request.stage for request in of_video_training(params)] == stages


def test_an_unknown_stage_names_the_known_ones():
    with pytest.raises(UserError, match="train@stage1"):
        requests_of(Params.load(ROOT / "params.yaml"), "train@stage9")
