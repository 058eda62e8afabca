import os

import numpy as np
import pytest
import torch
from encode_workspace import INPUTS, config, make_workspace, paths_of, set_runtime

from components.data import encode
from components.data.buckets import TOO_SMALL
from components.data.clips import read_clips
from components.data.frames import read_frames
from components.data.latents import SPLITS, LatentManifest, LatentStore
from components.data.windows import window_starts
from components.errors import ContractError, DataQualityError
from models.autoencoders import load_autoencoder
from models.text import TextEncoder
from tests.tiny_clips import SCENES


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return make_workspace(tmp_path_factory.mktemp("encode"))


@pytest.fixture(scope="module")
def paths(root):
    return paths_of(root)


@pytest.fixture(scope="module")
def report(paths):
    return encode.run(config(), paths)


def test_every_clip_is_encoded_or_left_out_for_a_reason(report):
    assert report.counts == {"clips": len(SCENES), "encoded": len(SCENES), "left_out": 0}
    assert report.metrics["rows"] == 2 * 2 * len(SCENES)  # two lengths, two windows


def test_a_row_is_what_the_autoencoder_makes_of_the_window_it_names(report, root, paths):
    latents = LatentStore(paths.output("latents"), root=root)
    codec = load_autoencoder(root / INPUTS["autoencoder"])
    text = TextEncoder.from_pretrained(root / INPUTS["text"])
    clips = {
        clip.clip_id: clip
        for clip in read_clips(paths.input("clips"), root=root, videos=root / "data/footage")
    }
    for family in latents.manifest.families:
        rows = latents.rows(family)
        stored, embedded, mask = latents.read(family, range(len(rows)))
        for row in (0, len(rows) - 1):
            clip = clips[rows.clip_ids([row])[0]]
            whole = read_frames(
                clip.path,
                clip.start_seconds,
                clip.end_seconds,
                fps=8,
                height=family.height,
                width=family.width,
            )
            window = whole[rows.windows[row] :][: family.frames]
            frames = torch.from_numpy(window).permute(3, 0, 1, 2)[None].float() / 127.5 - 1
            with torch.inference_mode():
                expected = codec.encode(frames)[0]
            assert torch.allclose(stored[row], expected, atol=2e-3 * float(expected.abs().max()))
            one_text, one_mask = text.encode([clip.caption])
            assert torch.allclose(embedded[row], one_text[0], atol=1e-2)
            assert torch.equal(mask[row], one_mask[0])
            assert SPLITS[rows.splits[row]] == clip.split


def test_rows_are_in_the_order_of_clip_and_window(report, root, paths):
    latents = LatentStore(paths.output("latents"), root=root)
    for family in latents.manifest.families:
        rows = latents.rows(family)
        order = list(zip(rows.clip_ids(), rows.windows, strict=True))
        assert order == sorted(order)
        assert len(order) == family.rows


def test_a_second_run_encodes_nothing_and_writes_the_same_manifest(report, root, paths):
    before = paths.output("latents").read_bytes()
    shards = {path: path.stat().st_mtime_ns for path in (root / "store/latents").rglob("*.safetensors")}
    assert encode.run(config(), paths) == report
    assert paths.output("latents").read_bytes() == before
    assert {
        path: path.stat().st_mtime_ns for path in (root / "store/latents").rglob("*.safetensors")
    } == shards


def test_a_run_that_lost_shards_makes_the_same_ones_again(report, root, paths):
    before = paths.output("latents").read_bytes()
    for path in sorted((root / "store/latents").rglob("*.safetensors"))[::2]:
        path.unlink()
    encode.run(config(), paths)
    assert paths.output("latents").read_bytes() == before


def test_a_record_that_a_crash_of_the_machine_left_empty_is_made_again(report, root, paths):
    before = paths.output("latents").read_bytes()
    for shard in (root / "store/latents").rglob("*.safetensors"):
        shard.with_suffix(".json").write_bytes(b"")
    encode.run(config(), paths)
    assert paths.output("latents").read_bytes() == before


def test_the_manifest_carries_the_contract_of_what_made_it(report, root, paths):
    manifest = LatentManifest.read(paths.output("latents"))
    assert manifest.contract == load_autoencoder(root / INPUTS["autoencoder"]).contract()
    assert manifest.text.digest == TextEncoder.from_pretrained(root / INPUTS["text"]).digest
    assert manifest.families[0].latent_shape == (4, 5, 8, 8)


def test_a_damaged_file_costs_its_own_clips_and_is_counted(root, paths):
    video = root / "data/footage/video_2.mp4"
    whole = video.read_bytes()
    video.write_bytes(whole[: len(whole) // 3])
    try:
        report = encode.run(config(windows=1), paths)
    finally:
        video.write_bytes(whole)
    assert report.counts == {"clips": len(SCENES), "encoded": len(SCENES) - 1, "left_out": 1}
    assert sum(report.reasons.values()) == 1


def test_a_file_that_went_away_costs_its_own_clips_until_it_is_back(root, paths):
    video = root / "data/footage/video_2.mp4"
    away = video.rename(video.with_suffix(".away"))
    try:
        report = encode.run(config(windows=1, batch=2), paths)
    finally:
        away.rename(video)
    assert report.counts == {"clips": len(SCENES), "encoded": len(SCENES) - 1, "left_out": 1}
    assert report.reasons == {"missing_file": 1}
    assert encode.run(config(windows=1, batch=2), paths).counts["encoded"] == len(SCENES)


def test_clips_that_took_too_long_are_encoded_when_they_may_take_longer(tmp_path):
    """What a limit or an object store that was away left out is no property of the clips."""
    root, clips = make_workspace(tmp_path), len(SCENES)
    video = next(path for path in sorted((root / INPUTS["videos"]).iterdir()) if path.suffix == ".mp4")
    away = video.replace(root / "away.mp4")
    os.mkfifo(video)  # opened, it answers nothing, as a share that hangs
    set_runtime(root, item_seconds=2)
    report = encode.run(config(windows=1), paths_of(root))
    assert report.counts == {"clips": clips, "encoded": clips - 1, "left_out": 1}
    away.replace(video)
    set_runtime(root, item_seconds=60)
    report = encode.run(config(windows=1), paths_of(root))
    assert report.counts == {"clips": clips, "encoded": clips, "left_out": 0}


def test_clips_below_every_bucket_are_named_and_not_lost_in_silence(root, paths):
    with pytest.raises(DataQualityError, match=TOO_SMALL):
        encode.run(config(resolutions=("144p",)), paths)


def test_a_bucket_that_the_autoencoder_cannot_divide_is_refused_before_any_work(root, paths):
    with pytest.raises(ContractError, match="multiple of 4"):
        encode.run(config(resolutions=("30px",), multiple=6), paths)


@pytest.mark.parametrize(
    ("available", "frames", "windows", "starts"),
    [
        (16, 9, 3, (0, 4, 7)),
        (16, 9, 1, (3,)),
        (9, 9, 3, (0,)),
        (10, 9, 3, (0, 1)),
        (8, 9, 3, ()),
        (5, 1, 2, (0, 4)),
    ],
)
def test_windows_are_spread_evenly_and_never_repeated(available, frames, windows, starts):
    assert window_starts(available, frames, windows) == starts
    assert all(0 <= start <= available - frames for start in np.array(starts, dtype=int))
