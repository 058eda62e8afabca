"""The causal 5B model: its size, that the future never reaches the past, and that its cache changes nothing."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from models.transformers.causal import TeacherForcing
from models.transformers.key_value_cache import KeyValueCache
from models.transformers.presets import PRESETS, preset
from models.transformers.video_transformer import VideoTransformer

BLOCKS = [1, 3, 3]  # frames of the first blocks: {"size": 3, "first": 1}


def tiny(**changes: Any) -> VideoTransformer:
    """The tiny twin with every weight drawn, so that every path has an effect."""
    torch.manual_seed(0)
    model = preset("causal-5b-tiny", **changes).eval()
    for parameter in model.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.1)
    return model


def batch(frames: int = 7) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    mask = torch.zeros(2, 12, dtype=torch.bool)
    mask[0, :5], mask[1, :9] = True, True
    return {
        "latents": torch.randn(2, 48, frames, 4, 6, generator=generator),
        "timestep": torch.tensor([200.0, 700.0]),
        "text": torch.randn(2, 12, 32, generator=generator),
        "text_mask": mask,
        "fps": torch.tensor([8.0, 24.0]),
        "size": torch.tensor([[64.0, 96.0], [64.0, 96.0]]),
    }


def test_the_5b_model_has_5b_parameters():
    with torch.device("meta"):
        model = preset("causal-5b")
    assert sum(parameter.numel() for parameter in model.parameters()) == 5_012_404_416
    assert PRESETS["causal-5b"].tokens == 31 * 22 * 40


@torch.no_grad()
def test_changing_a_frame_leaves_the_blocks_before_it_bit_equal():
    model, data = tiny(), batch()
    for frame, block_start in ((1, 1), (3, 1), (4, 4), (6, 4)):
        changed = {**data, "latents": data["latents"].clone()}
        changed["latents"][:, :, frame] += 1
        difference = (model(**changed) - model(**data)).abs().amax(dim=(0, 1, 3, 4))
        assert difference[:block_start].max() == 0
        assert difference[block_start:].min() > 1e-5


@torch.no_grad()
@pytest.mark.parametrize("lengths", [BLOCKS, [4, 3]], ids=str)
def test_block_by_block_with_a_cache_equals_the_whole_clip(lengths: list[int]):
    model, data = tiny(), batch()
    cache = KeyValueCache(frames=7)
    out = []
    for latents in data["latents"].split(lengths, dim=2):
        given = {**data, "latents": latents}
        model(**{**given, "latents": latents + 1}, cache=cache)  # a pass that is not kept
        out.append(model(**given, cache=cache))
        cache.keep()
    torch.testing.assert_close(torch.cat(out, dim=2), model(**data), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_the_caption_is_read_once_per_cache():
    model, data, cache = tiny(), batch(), KeyValueCache(frames=7)
    first = model(**data, cache=cache)
    calls = []
    for block in model.blocks():
        block.text_attention.key_value.register_forward_hook(lambda *_: calls.append(1))
    assert torch.equal(model(**data, cache=cache), first)
    assert calls == []


@torch.no_grad()
def test_teacher_forcing_shows_each_noisy_block_what_it_sees_at_generation():
    model, data = tiny(), batch()
    clean = torch.randn(data["latents"].shape, generator=torch.Generator().manual_seed(2))
    mask = torch.cat((torch.zeros(2, 7), torch.ones(2, 7)), dim=1).bool()
    both = {**data, "latents": torch.cat((clean, data["latents"]), dim=2)}
    noisy = model(**both, frame_mask=mask, cache=TeacherForcing())[:, :, 7:]
    cache = KeyValueCache(frames=7)
    blocks = zip(
        clean.split(BLOCKS, 2), data["latents"].split(BLOCKS, 2), noisy.split(BLOCKS, 2), strict=True
    )
    for given, block, learned in blocks:
        generated = model(**{**data, "latents": block}, cache=cache)
        torch.testing.assert_close(learned, generated, atol=1e-5, rtol=1e-5)
        model(**{**data, "latents": given, "timestep": torch.zeros(2)}, cache=cache)
        cache.keep()


def test_teacher_forcing_learns_from_every_weight():
    model, data = tiny().train(), batch()
    both = {**data, "latents": torch.cat((data["latents"], data["latents"]), dim=2)}
    model(**both, cache=TeacherForcing())[:, :, 7:].square().mean().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in model.parameters())
