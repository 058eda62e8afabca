"""The key-value cache of a causal layer: block by block with memory is the whole clip under the mask."""

import pytest
import torch
from torch import Tensor

from models.transformers import attention
from models.transformers.attention import SelfAttention
from models.transformers.causal import FrameBlocks
from models.transformers.key_value_cache import KeyValueCache
from models.transformers.query_key import QueryKeyWidthNorm
from models.transformers.rotary import Rotary
from models.transformers.windows import FRAME, Window

CAUSAL = Window(size=(None, None, None), causal=True)
TUBE = Window(size=(None, 1, 1), causal=True)


def layer(blocks: FrameBlocks, window: Window = CAUSAL) -> SelfAttention:
    torch.manual_seed(0)
    return SelfAttention(2, 8, window, norm=QueryKeyWidthNorm(16), place=Rotary(4, 2, 2), frames=blocks)


def video(frames: int = 7) -> Tensor:
    return torch.randn(2, frames, 2, 3, 16, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def block_by_block(attend: SelfAttention, x: Tensor, lengths: list[int], cache: KeyValueCache) -> Tensor:
    out = []
    for block in x.split(lengths, dim=1):
        for noise in (1.0, 0.5):  # passes that are not kept leave no trace
            attend(block + noise, cache=cache.block(0))
        out.append(attend(block, cache=cache.block(0)))
        cache.keep()
    return torch.cat(out, dim=1)


@pytest.mark.parametrize("dense_tokens", [0, 1024], ids=["framewise", "masked"])
@pytest.mark.parametrize("window", [CAUSAL, TUBE], ids=["all", "tube"])
@pytest.mark.parametrize(
    ("blocks", "lengths"),
    [
        (FrameBlocks(), [1] * 7),
        (FrameBlocks(size=2, first=1), [1, 2, 2, 2]),
        (FrameBlocks(size=2, first=1), [3, 2, 2]),  # what is given may be several blocks
        (FrameBlocks(size=2, first=1), [5, 2]),
        (FrameBlocks(size=1, local=2, sink=1), [1] * 7),
        (FrameBlocks(size=2, first=1, local=3, sink=1), [3, 4]),
    ],
    ids=str,
)
def test_cached_equals_uncached_masked(
    blocks: FrameBlocks,
    lengths: list[int],
    window: Window,
    dense_tokens: int,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(attention, "DENSE_TOKENS", dense_tokens)
    attend, x = layer(blocks, window), video()
    cached = block_by_block(attend, x, lengths, KeyValueCache(frames=7))
    torch.testing.assert_close(cached, attend(x), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("blocks", [FrameBlocks(local=3), FrameBlocks(local=2, sink=1)], ids=str)
def test_a_rolling_cache_holds_exactly_what_a_local_window_sees(blocks: FrameBlocks):
    x, cache = video(9), KeyValueCache(frames=3, sink=blocks.sink)
    rolled = block_by_block(layer(FrameBlocks()), x, [1] * 9, cache)  # no local rule: the cache forgets
    torch.testing.assert_close(rolled, layer(blocks)(x), atol=1e-5, rtol=1e-5)
    assert cache.block(0).next_frame == cache.next_frame == 9


def test_changing_a_frame_leaves_earlier_blocks_bit_equal():
    attend, x = layer(FrameBlocks(size=2, first=1)), video()
    changed = x.clone()
    changed[:, 4] += 1
    difference = (attend(changed) - attend(x)).abs().amax(dim=(0, 2, 3, 4))
    assert difference[:3].max() == 0
    assert difference[3:].min() > 0


def test_windows_inside_a_frame_have_no_use_for_a_cache():
    attend, cache = layer(FrameBlocks(), FRAME), KeyValueCache(frames=3)
    assert torch.equal(attend(video(), cache=cache.block(0)), attend(video()))
    assert cache.next_frame == 0


def test_a_cache_filled_in_inference_mode_can_be_used_without_it():
    attend, cache = layer(FrameBlocks()), KeyValueCache(frames=3)
    with torch.inference_mode():
        attend(video(1), cache=cache.block(0))
        cache.keep()
    with torch.no_grad():
        attend(video(1), cache=cache.block(0))


def test_a_cache_that_cannot_serve_is_refused():
    attend = layer(FrameBlocks())
    with pytest.raises(ValueError, match="for generation"):
        attend(video(1), cache=KeyValueCache(frames=3).block(0))
    with pytest.raises(ValueError, match="0 <= sink < frames"):
        KeyValueCache(frames=2, sink=2)
    cache = KeyValueCache(frames=3, sink=1)
    with torch.no_grad():
        with pytest.raises(ValueError, match="3 frames at once in a cache of 3 with 1 sink"):
            attend(video(3), cache=cache.block(0))
        attend(video(1), cache=cache.block(0))
        cache.keep()
        with pytest.raises(ValueError, match="use a new one"):
            attend(video(1)[:1], cache=cache.block(0))
