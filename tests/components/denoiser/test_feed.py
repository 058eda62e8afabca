"""How batches reach a denoiser."""

import pytest
import torch

from components.data.config import BatchesConfig
from components.data.loader import LatentBatches
from components.denoiser.programs import Feed, FlowProgram
from models.diffusion import FrameMasks, RectifiedFlow
from tests.tiny_latents import make_latents, make_text
from tests.tiny_parts import tiny_transformer


@pytest.fixture(scope="module")
def batches(tmp_path_factory):
    root = tmp_path_factory.mktemp("feed")
    make_text(root)
    manifest = make_latents(root, "videos", [(1, 16, 16), (5, 16, 16)])
    config = BatchesConfig(buckets={"16px": {1: (1.0, 6), 5: (1.0, 6)}}, seed=0, small_bucket="repeat")
    return LatentBatches(manifest, root=root, config=config)


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def test_still_images_are_labelled_by_their_own_frame_rate(batches):
    feed, model = Feed(batches, 0.0), tiny_transformer()
    fed = [feed.read(position, model, rng()) for position in range(2)]
    seen = {(item.kind, item.latents.shape[2], *item.conditions.fps.unique().tolist()) for item in fed}
    assert seen == {("images", 1, 120.0), ("videos", 3, 8.0)}


def test_dropped_captions_become_the_null_caption_and_keep_their_mask(batches):
    model = tiny_transformer()
    kept = Feed(batches, 0.0).read(0, model, rng())
    mixed = Feed(batches, 0.5).read(0, model, rng())
    is_null = [torch.equal(text, model.null_caption) for text in mixed.conditions.text]
    assert 0 < sum(is_null) < 6
    for null, text, original in zip(is_null, mixed.conditions.text, kept.conditions.text, strict=True):
        assert null or torch.equal(text, original)
    assert torch.equal(mixed.conditions.text_mask, kept.conditions.text_mask)


def test_a_step_is_a_function_of_position_and_generator(batches):
    model = tiny_transformer()
    program = FlowProgram(model, Feed(batches, 0.2), RectifiedFlow(), FrameMasks(random=0.5))
    with torch.no_grad():
        losses = [
            program.step(model, position, rng(seed)).loss.item()
            for position, seed in ((0, 1), (1, 2), (0, 1))
        ]
    assert losses[0] == losses[2] != losses[1]


def test_the_result_names_clips_and_the_kind_of_batch(batches):
    model = tiny_transformer()
    program = FlowProgram(model, Feed(batches, 0.0), RectifiedFlow(), FrameMasks())
    with torch.no_grad():
        results = [program.step(model, position, rng()) for position in range(2)]
    assert {name for result in results for name in result.metrics} == {"loss_images", "loss_videos"}
    assert all(sorted(result.clip_ids) == [f"{clip:016x}" for clip in range(6)] for result in results)
    assert all(result.wait_seconds > 0 for result in results)
