"""What a training stage asks of the data: a named selection of the clips, and captions with scores or without."""

import shutil
from pathlib import Path

import pyarrow as pa
import pytest
import torch
from encode_workspace import config, make_workspace, paths_of

from components.data import encode, store
from components.data.clips import read_clips
from components.data.config import BatchesConfig
from components.data.forecast import Request, forecast
from components.data.forecast import read_clips as read_training_clips
from components.data.latents import LatentManifest, LatentStore
from components.data.loader import LatentBatches
from components.data.mirror import MIRRORED, VARIANTS
from components.data.video_batches import VideoBatches
from components.errors import UserError
from models.text import TextEncoder
from tests.tiny_clips import SCENES

CLIPS = range(len(SCENES))  # 4 and 5 are for validation
CHOSEN = {"few": {0, 2, 5}, "all": set(CLIPS), "nothing": set()}


def mark(root: Path, chosen=None, endings=None):
    """Write selections and captions with scores into the clip table, as `filter` and `caption` do."""
    manifest = root / "artifacts/clips/dedup.json"
    captions = store.read(root, manifest, ["caption"])["caption"].to_pylist()
    chosen = chosen or CHOSEN
    names = [[name for name, clips in chosen.items() if clip in clips] for clip in CLIPS]
    scored = [
        f"{caption}. {(endings or {}).get(clip, f'aesthetic score: {clip}.5.')}"
        for clip, caption in enumerate(captions)
    ]
    table = {
        "clip_id": [f"{clip:016x}" for clip in CLIPS],
        "selections": pa.array(names, pa.list_(pa.string())),
        "scored_caption": scored,
    }
    notes = dict.fromkeys(chosen, "selection")
    store.add_columns(root, manifest, pa.table(table), "filter", notes=notes).write(manifest)


@pytest.fixture(scope="module")
def pristine(tmp_path_factory):
    """Encoded, with selections and plain captions."""
    folder = make_workspace(tmp_path_factory.mktemp("pristine"), frames=16)
    shutil.copy(folder / "artifacts/clips/dedup.json", folder / "unmarked.json")
    mark(folder)
    encode.run(config(frames=(9,)), paths_of(folder))
    return folder


@pytest.fixture
def root(pristine, tmp_path):
    return Path(shutil.copytree(pristine, tmp_path / "root"))


def batches_config(**more):
    return BatchesConfig(**{"buckets": {"32px": {9: (1.0, 2)}}, "seed": 3, "small_bucket": "repeat", **more})


def opened(root, **more):
    wanted = batches_config(**more)
    source = VideoBatches if wanted.source == "videos" else LatentBatches
    return source(paths_of(root).output("latents"), root=root, config=wanted)


def drawn(batches, positions=8):
    return {int(name, 16) for position in range(positions) for name in batches.batch(position).clip_ids}


def shards(root):
    """When each shard of latents was written."""
    found = (root / "store/latents").rglob("*.safetensors")
    return {path: path.stat().st_mtime_ns for path in found if "text" not in path.name}


@pytest.mark.parametrize("source", ["latents", "videos"])
def test_only_training_clips_of_the_selection_are_drawn(pristine, source):
    assert drawn(opened(pristine, source=source)) == {0, 1, 2, 3}
    assert drawn(opened(pristine, source=source, selection="few")) == {0, 2}
    assert drawn(opened(pristine, source=source, selection="all")) == {0, 1, 2, 3}


def test_a_selection_of_all_clips_gives_the_batches_of_none(pristine):
    plain, every = opened(pristine), opened(pristine, selection="all")
    for position in range(6):
        assert every.batch(position).clip_ids == plain.batch(position).clip_ids


@pytest.mark.parametrize("source", ["latents", "videos"])
@pytest.mark.parametrize(
    ("selection", "said"),
    [
        ("fwe", r"no selection is called `fwe`.*few \(3 clips\).*filter.selections"),
        ("nothing", r"no clip is in `nothing`.*filter.selections.nothing"),
        ("held_out", r"none of the requested buckets has train samples of the selection `held_out`"),
    ],
)
def test_a_selection_that_gives_no_sample_is_refused_with_the_known_names(root, source, selection, said):
    shutil.copy(root / "unmarked.json", root / "artifacts/clips/dedup.json")
    mark(root, {**CHOSEN, "held_out": {4, 5}})
    encode.run(config(frames=(9,)), paths_of(root))
    with pytest.raises(UserError, match=said):
        opened(root, source=source, selection=selection)


def test_another_threshold_of_a_selection_is_in_the_manifest_and_encodes_nothing_again(root):
    before, manifest = shards(root), paths_of(root).output("latents").read_bytes()
    shutil.copy(root / "unmarked.json", root / "artifacts/clips/dedup.json")
    mark(root, {**CHOSEN, "few": {1, 2, 3}})
    encode.run(config(frames=(9,)), paths_of(root))
    assert shards(root) == before
    assert paths_of(root).output("latents").read_bytes() != manifest  # which is what DVC compares
    assert drawn(opened(root, selection="few")) == {1, 2, 3}
    shutil.copy(root / "unmarked.json", root / "artifacts/clips/dedup.json")
    mark(root)
    encode.run(config(frames=(9,)), paths_of(root))
    assert shards(root) == before
    assert paths_of(root).output("latents").read_bytes() == manifest
    assert drawn(opened(root, selection="few")) == {0, 2}


def test_the_manifest_says_how_large_each_selection_is(pristine):
    known = LatentManifest.read(paths_of(pristine).output("latents")).selections
    assert known == {name: len(clips) for name, clips in CHOSEN.items()}


@pytest.mark.parametrize("selection", [None, "few"])
def test_the_forecast_counts_the_selection_as_training_draws_it(pristine, selection):
    batches = opened(pristine, selection=selection)
    request = Request("train@stage1", batches_config(selection=selection), config(frames=(9,)))
    found = forecast(read_training_clips(pristine), request)
    kept = {stream.name: stream.kept for stream in batches.schedule.streams}
    by_bucket = {family.aspect: kept[family.name] for family in batches.families}
    assert {row.aspect: row.kept for row in found.rows} == by_bucket
    assert found.batches == batches.schedule.batches_before(1)


@pytest.mark.parametrize("source", ["latents", "videos"])
@pytest.mark.parametrize("form", ["plain", "scored"])
def test_a_stage_reads_the_form_of_the_captions_that_it_asks_for(root, source, form):
    before = shards(root)
    encode.run(config(frames=(9,), scored_captions=True), paths_of(root))
    assert shards(root) == before  # latents are those of the plain captions
    clips = {
        clip.clip_id: clip
        for clip in read_clips(root / "artifacts/clips/dedup.json", root=root, videos=root / "data/footage")
    }
    text = TextEncoder.from_pretrained(root / "artifacts/text_encoder")
    batches = opened(root, source=source, captions=form)
    for position in range(4):
        batch = batches.batch(position)
        captions = [
            clips[name].caption if form == "plain" else clips[name].scored_caption for name in batch.clip_ids
        ]
        expected, mask = text.encode(captions)
        assert torch.allclose(batch.text, expected, atol=1e-2)
        assert torch.equal(batch.text_mask, mask)
    assert len({clip.scored_caption for clip in clips.values()} - {c.caption for c in clips.values()}) == 6


def test_captions_with_scores_that_nobody_encoded_are_refused(root):
    with pytest.raises(UserError, match=r"plain captions alone; set `scored_captions: true`"):
        opened(root, captions="scored")
    shutil.copy(root / "unmarked.json", root / "artifacts/clips/dedup.json")
    with pytest.raises(UserError, match=r"no captions with scores; name scores in `caption.suffixes`"):
        encode.run(config(frames=(9,), scored_captions=True), paths_of(root))
    with pytest.raises(UserError, match=r"no captions with scores; name scores in `caption.suffixes`"):
        opened(root, source="videos", captions="scored")


def test_a_score_that_names_a_side_forbids_the_mirror_image_where_it_is_read(root):
    shutil.copy(root / "unmarked.json", root / "artifacts/clips/dedup.json")
    mark(root, endings={2: "camera motion: pan left.", 3: "camera motion: zoom in."})
    found = {}
    for scored in (False, True):
        encode.run(config(frames=(9,), flips=True, scored_captions=scored), paths_of(root))
        latents = LatentStore(paths_of(root).output("latents"), root=root)
        rows = [latents.rows(family) for family in latents.manifest.families]
        mirrored = VARIANTS.index(MIRRORED)
        found[scored] = {
            int(name, 16)
            for each in rows
            for name in each.clip_ids([i for i, v in enumerate(each.variants) if v == mirrored])
        }
    assert found[False] - found[True] == {2}
    assert 3 in found[True]
