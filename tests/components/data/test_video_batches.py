"""Training data that is encoded as it is needed: drawn by position alone, and equal to what its parts make of it."""

import shutil

import numpy as np
import pytest
import torch
from encode_workspace import INPUTS, config, make_workspace, paths_of

from components.data import encode
from components.data.buckets import Bucket
from components.data.config import BatchesConfig
from components.data.frames import read_frames
from components.data.loader import LatentBatches
from components.data.mirror import may_be_mirrored
from components.data.video_batches import VideoBatches, draw_of, read_draw
from components.denoiser.latent_inputs import facts_of, open_batches
from components.errors import ContractError
from models.autoencoders import load_autoencoder
from models.text import TextEncoder
from tests.tiny_clips import stage_paths
from tests.tiny_parts import tiny_codec

BUCKETS = {"32px": {9: (1.0, 2), 1: (0.5, 2)}}


def batches_config(**more):
    return BatchesConfig(
        **{"buckets": BUCKETS, "seed": 3, "small_bucket": "repeat", "source": "videos", **more}
    )


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = make_workspace(tmp_path_factory.mktemp("online"), frames=16)
    encode.run(config(precompute=False, flips=True), paths_of(folder))
    return folder


@pytest.fixture(scope="module")
def manifest(root):
    return paths_of(root).output("latents")


def opened(root, manifest, **more):
    return VideoBatches(manifest, root=root, config=batches_config(**more))


def same(one, other):
    tensors = ("latents", "text", "text_mask", "fps", "size")
    return (one.clip_ids, one.bucket) == (other.clip_ids, other.bucket) and all(
        torch.equal(getattr(one, name), getattr(other, name)) for name in tensors
    )


def test_a_batch_is_a_function_of_seed_and_position_alone(root, manifest):
    straight = opened(root, manifest)
    every = [straight.batch(position) for position in range(6)]
    resumed = opened(root, manifest)
    assert all(same(resumed.batch(position), every[position]) for position in (4, 5))
    ranks = [opened(root, manifest) for _ in range(2)]
    assert all(same(ranks[position % 2].batch(position), every[position]) for position in range(6))
    other = opened(root, manifest, seed=4)
    assert not all(same(other.batch(position), every[position]) for position in range(6))


def test_a_batch_is_what_the_frozen_models_make_of_its_draws(root, manifest):
    batches = opened(root, manifest)
    codec, text = (
        load_autoencoder(root / INPUTS["autoencoder"]),
        TextEncoder.from_pretrained(root / INPUTS["text"]),
    )
    clips = {clip.clip_id: clip for clip in batches.videos.clips}
    for position in range(3):
        batch = batches.batch(position)
        family, _ = batches.chosen(position)
        bucket = Bucket(family.resolution, family.frames, family.aspect, family.height, family.width)
        assert batch.latents.shape == (2, *family.latent_shape)
        assert not batch.latents.requires_grad and not batch.latents.is_inference()
        for place, name in enumerate(batch.clip_ids):
            clip = clips[name]
            assert clip.split == "train"
            draw = draw_of(clip, bucket, batches.videos.config, (3, position, place, 0))
            frames = torch.from_numpy(read_draw(clip, bucket, 8, draw).copy()).permute(3, 0, 1, 2)[None]
            with torch.inference_mode():
                expected = codec.encode(frames.float() / 127.5 - 1)[0]
            assert torch.allclose(batch.latents[place], expected, atol=1e-4)
            embedded, mask = text.encode([clip.caption])
            assert torch.allclose(batch.text[place], embedded[0], atol=1e-5)
            assert torch.equal(batch.text_mask[place], mask[0])


def test_draws_cover_windows_crops_and_mirrors_and_never_mirror_a_forbidden_caption(root, manifest):
    store = opened(root, manifest).videos
    bucket = Bucket("32px", 9, "1:1", 32, 32)
    for clip in store.clips:
        draws = [draw_of(clip, bucket, store.config, (3, position, 0, 0)) for position in range(200)]
        assert {draw.first for draw in draws} == set(range(8))  # 16 frames, 9 taken
        assert any(draw.mirror for draw in draws) == may_be_mirrored(clip.caption)
        assert all(0 <= share < 1 for draw in draws for share in draw.crop)
        assert np.std([draw.crop[1] for draw in draws]) > 0.25


def test_a_crop_is_a_part_of_the_covering_picture(root, manifest):
    clip = opened(root, manifest).videos.clips[1]  # 40x60
    size = {"fps": 8, "height": 32, "width": 32}
    whole = read_frames(clip.path, 0, 1 / 8, fps=8, height=32, width=48)
    for share, left in ((0.0, 0), (0.5, 8), (0.99, 15)):
        part = read_frames(clip.path, 0, 1 / 8, crop=(0.5, share), **size)
        assert np.array_equal(part, whole[:, :, left : left + 32])


def test_a_clip_that_cannot_be_decoded_is_replaced_by_the_next_one(root, manifest, tmp_path):
    copy = shutil.copytree(root, tmp_path / "root")
    (copy / "data/footage/video_0.mp4").write_bytes(b"no video")
    batches = VideoBatches(copy / manifest.relative_to(root), root=copy, config=batches_config())
    seen = {name for position in range(12) for name in batches.batch(position).clip_ids}
    assert f"{0:016x}" not in seen
    assert len(seen) == 3  # of four training clips


def test_a_stage_opens_either_source_by_its_parameters(root, manifest):
    inputs = {"latents": "artifacts/latents/videos.json", "text": INPUTS["text"]}
    paths = stage_paths(root, inputs, {})
    batches = open_batches(batches_config(), paths)
    assert isinstance(batches, VideoBatches)
    assert (
        facts_of(batches, "flow", {}).autoencoder == load_autoencoder(root / INPUTS["autoencoder"]).contract()
    )
    with pytest.raises(ContractError, match=r"batches.source: videos"):
        open_batches(batches_config(source="latents"), paths)


def test_another_autoencoder_than_that_of_the_manifest_is_refused(root, manifest, tmp_path):
    copy = shutil.copytree(root, tmp_path / "root")
    tiny_codec(seed=1).save_pretrained(copy / INPUTS["autoencoder"])
    with pytest.raises(ContractError, match="not the autoencoder of"):
        VideoBatches(copy / manifest.relative_to(root), root=copy, config=batches_config())


def test_the_same_clips_are_drawn_in_the_order_of_stored_latents_with_one_window(root, manifest, tmp_path):
    copy = shutil.copytree(root, tmp_path / "root")
    encode.run(config(windows=1), paths_of(copy))
    stored = LatentBatches(
        copy / manifest.relative_to(root), root=copy, config=batches_config(source="latents")
    )
    online = opened(root, manifest)
    assert [stored.batch(k).clip_ids for k in range(5)] == [online.batch(k).clip_ids for k in range(5)]
