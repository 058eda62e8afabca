import shutil
from collections import Counter

import numpy as np
import pytest
import torch
from latent_files import CAPTIONS, clip_id, make_latents
from safetensors.torch import load_file

from components.data.config import BatchesConfig
from components.data.latents import LatentStore
from components.data.loader import LatentBatches
from components.data.mirror import VARIANTS
from components.errors import ContractError, UserError

FAMILIES = [
    ("32px", "1:1", 1, 32, 32, range(10)),
    ("32px", "1:1", 9, 32, 32, range(10)),
    ("32px", "2:3", 9, 24, 40, range(10, 13)),
]


def config(buckets=None, *, policy="repeat", seed=5):
    return BatchesConfig(buckets=buckets or {"32px": {9: (1.0, 4)}}, seed=seed, small_bucket=policy)


def test_a_batch_holds_what_was_written_for_its_clips(tmp_path):
    manifest, text, mask = make_latents(tmp_path, FAMILIES)
    batches = LatentBatches(manifest, root=tmp_path, config=config())
    shapes = set()
    for position in range(9):
        batch = batches.batch(position)
        numbers = [int(name, 16) for name in batch.clip_ids]
        assert batch.latents[:, 0, 0, 0, 0].tolist() == numbers
        captions = [number % CAPTIONS for number in numbers]
        assert torch.equal(batch.text, text[captions])
        assert torch.equal(batch.text_mask, mask[captions])
        assert batch.fps.tolist() == [8.0] * 4
        assert {tuple(size) for size in batch.size.tolist()} in ({(32.0, 32.0)}, {(24.0, 40.0)})
        shapes.add((batch.bucket, tuple(batch.latents.shape)))
    assert shapes == {("9x32x32", (4, 2, 5, 4, 4)), ("9x24x40", (4, 2, 5, 3, 5))}


def test_batches_after_a_resume_are_those_of_the_uninterrupted_run(tmp_path):
    manifest, *_ = make_latents(tmp_path, FAMILIES)
    wanted = config({"32px": {1: (0.5, 2), 9: (1.0, 3)}})
    straight = LatentBatches(manifest, root=tmp_path, config=wanted)
    names = [straight.batch(position).clip_ids for position in range(40)]
    resumed = LatentBatches(manifest, root=tmp_path, config=wanted)
    assert [resumed.batch(position).clip_ids for position in range(23, 40)] == names[23:]


def test_two_devices_together_see_the_batches_of_one(tmp_path):
    manifest, *_ = make_latents(tmp_path, FAMILIES)
    one = LatentBatches(manifest, root=tmp_path, config=config())
    ranks = [LatentBatches(manifest, root=tmp_path, config=config()) for _ in range(2)]
    together = [ranks[position % 2].batch(position).clip_ids for position in range(12)]
    assert together == [one.batch(position).clip_ids for position in range(12)]


def test_only_clips_of_the_split_are_drawn(tmp_path):
    manifest, *_ = make_latents(tmp_path, FAMILIES, validation=(1, 4, 11))
    for split, expected in (("validation", {1, 4, 11}), ("train", set(range(13)) - {1, 4, 11})):
        batches = LatentBatches(manifest, root=tmp_path, config=config(), split=split)
        seen = {int(name, 16) for position in range(40) for name in batches.batch(position).clip_ids}
        assert seen == expected


def test_the_keep_share_of_a_bucket_sets_how_often_it_comes(tmp_path):
    manifest, *_ = make_latents(tmp_path, [(*FAMILIES[0][:5], range(40)), (*FAMILIES[1][:5], range(40))])
    batches = LatentBatches(manifest, root=tmp_path, config=config({"32px": {1: (0.25, 2), 9: (1.0, 2)}}))
    counts = Counter(batches.batch(position).bucket for position in range(50))
    assert counts == {"9x32x32": 40, "1x32x32": 10}
    assert batches.samples == 50


def test_a_clip_is_offered_to_the_largest_resolution_first(tmp_path):
    families = [("64px", "1:1", 9, 64, 64, range(10)), ("32px", "1:1", 9, 32, 32, range(20))]
    manifest, *_ = make_latents(tmp_path, families)
    wanted = config({"64px": {9: (0.4, 2)}, "32px": {9: (1.0, 2)}})
    batches = LatentBatches(manifest, root=tmp_path, config=wanted)
    names = [name for position in range(10) for name in batches.batch(position).clip_ids]
    assert len(set(names)) == 20  # each of the 20 clips at one of its resolutions


def test_a_missing_bucket_is_named_and_left_out_while_others_have_samples(tmp_path, caplog):
    manifest, *_ = make_latents(tmp_path, FAMILIES)
    wanted = config({"32px": {9: (1.0, 2), 17: (1.0, 2)}})
    batches = LatentBatches(manifest, root=tmp_path, config=wanted)
    assert "17 frames" in caplog.text
    assert batches.batch(0).bucket.startswith("9x")


def test_no_samples_at_all_is_an_error_that_names_what_there_is(tmp_path):
    manifest, *_ = make_latents(tmp_path, FAMILIES)
    with pytest.raises(UserError, match="32px x 9"):
        LatentBatches(manifest, root=tmp_path, config=config({"64px": {9: (1.0, 2)}}))
    with pytest.raises(UserError, match="validation"):
        LatentBatches(manifest, root=tmp_path, config=config(), split="validation")


def test_a_bucket_below_one_batch_is_refused_only_where_that_is_asked_for(tmp_path, caplog):
    manifest, *_ = make_latents(tmp_path, FAMILIES)
    with pytest.raises(UserError, match="9x24x40 keeps 3"):
        LatentBatches(manifest, root=tmp_path, config=config(policy="refuse"))
    LatentBatches(manifest, root=tmp_path, config=config(policy="merge")).batch(0)
    LatentBatches(manifest, root=tmp_path, config=config(policy="repeat")).batch(0)
    assert "repeated" in caplog.text


def test_equal_content_is_written_as_equal_files(tmp_path):
    first, *_ = make_latents(tmp_path / "a", FAMILIES)
    second, *_ = make_latents(tmp_path / "b", FAMILIES)
    assert first.read_bytes() == second.read_bytes()
    assert LatentStore(first, root=tmp_path / "a").verify() == []


def test_a_missing_shard_is_an_error_with_the_way_out(tmp_path):
    manifest, *_ = make_latents(tmp_path, FAMILIES)
    next((tmp_path / "store").rglob("32px*.safetensors")).unlink()
    with pytest.raises(ContractError, match="encode again"):
        LatentStore(manifest, root=tmp_path)


def test_a_damaged_shard_is_named(tmp_path):
    manifest, *_ = make_latents(tmp_path, FAMILIES)
    shard = next((tmp_path / "store").rglob("32px*.safetensors"))
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(bytes(content))
    assert LatentStore(manifest, root=tmp_path).verify() == [shard.relative_to(tmp_path / "store").as_posix()]


def test_rows_are_read_in_the_order_asked_for_across_shards(tmp_path):
    manifest, *_ = make_latents(tmp_path, FAMILIES, shard_rows=3)
    store = LatentStore(manifest, root=tmp_path)
    latents, *_ = store.read(store.manifest.families[0], [9, 0, 4, 4, 2])
    assert latents[:, 0, 0, 0, 0].tolist() == [9, 0, 4, 4, 2]
    assert store.rows(store.manifest.families[0]).clip_ids() == [clip_id(n) for n in range(10)]
    assert np.all(store.rows(store.manifest.families[0]).windows == 0)


def test_offsets_of_the_table_are_where_an_independent_reader_finds_the_rows(tmp_path):
    manifest, *_ = make_latents(tmp_path, FAMILIES, shard_rows=3)
    store = LatentStore(manifest, root=tmp_path)
    for family in store.manifest.families:
        rows = store.rows(family)
        whole = torch.cat([load_file(tmp_path / "store" / shard.file)["latents"] for shard in family.shards])
        for row, (shard, offset) in enumerate(zip(rows.shards, rows.offsets, strict=True)):
            content = (tmp_path / "store" / family.shards[shard].file).read_bytes()
            size = whole[row].numel() * 2
            assert content[offset : offset + size] == whole[row].numpy().tobytes()
        assert torch.equal(store.read(family, range(len(rows)))[0], whole.float())


def test_opening_a_store_reads_no_shard(tmp_path):
    manifest, *_ = make_latents(tmp_path, FAMILIES)
    for shard in (tmp_path / "store").rglob("32px*.safetensors"):
        shard.write_bytes(bytes(shard.stat().st_size))  # nothing in it is of use
    batches = LatentBatches(manifest, root=tmp_path, config=config())
    assert batches.samples == 13


def test_a_shard_that_was_cut_off_is_found_when_the_store_is_opened(tmp_path):
    manifest, *_ = make_latents(tmp_path, FAMILIES)
    shard = next((tmp_path / "store").rglob("32px*.safetensors"))
    shard.write_bytes(shard.read_bytes()[:-2])
    with pytest.raises(ContractError, match="its manifest says"):
        LatentStore(manifest, root=tmp_path)


def test_a_table_of_samples_that_is_missing_is_named(tmp_path):
    manifest, *_ = make_latents(tmp_path, FAMILIES)
    shutil.rmtree(tmp_path / "store/latents/test/samples.lance")
    with pytest.raises(ContractError, match=r"samples\.lance is missing"):
        LatentBatches(manifest, root=tmp_path, config=config())


def test_mirrored_samples_are_samples_of_their_own(tmp_path):
    manifest, *_ = make_latents(tmp_path, FAMILIES[:1], variants=VARIANTS)
    batches = LatentBatches(manifest, root=tmp_path, config=config({"32px": {1: (1.0, 4)}}))
    assert batches.samples == 20
    family = batches.families[0]
    drawn = [row for position in range(5) for row in batches.chosen(position)[1].tolist()]
    assert sorted(drawn) == list(range(20))
    assert len(set(batches.store.rows(family).samples().tolist())) == 20
