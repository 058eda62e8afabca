"""Attention in windows against its definition, forward and backward, and what it must never allocate."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from models.transformers import attention
from models.transformers.assembly import patterns_of
from models.transformers.attention import SelfAttention, attend
from models.transformers.causal import FrameBlocks, frame_mask
from models.transformers.presets import PRESETS
from models.transformers.query_key import QueryKeyNorm
from models.transformers.relative_bias import RelativeBias
from models.transformers.rotary import Rotary
from models.transformers.video_transformer import STDIT_PATTERN
from models.transformers.windows import ALL, FRAME, TUBE, Grid, Window
from tests.models.transformers.dense_attention import dense, naive_bias, operands, visible

GRIDS = [(4, 6, 8), (3, 5, 7), (1, 4, 4), (5, 2, 3)]
WINDOWS = [
    FRAME,
    TUBE,
    ALL,
    Window(size=(2, 3, 4)),
    Window(size=(2, 3, 4), shift=(1, 1, 2)),
    Window(size=(2, 3, 4), shift=(1, 1, 2), causal=True),
    Window(size=(1, 4, 4), shift=(0, 2, 2)),
    Window(size=(3, 4, 5)),
    Window(size=(3, 4, 5), shift=(2, 3, 1)),
    Window(size=(8, 7, 7), shift=(4, 3, 3)),
    Window(size=(8, 7, 7), shift=(4, 3, 3), causal=True),
    Window(size=(16, 1, 1), shift=(9, 0, 0)),
    Window(size=(None, None, None), causal=True),
    Window(size=(None, 1, 1), causal=True),
    Window(size=(2, None, None), causal=True),
]


def name_of(window: Window) -> str:
    size = "x".join(str(n or "all") for n in window.size)
    return f"{size}{window.shift if any(window.shift) else ''}{'causal' if window.causal else ''}"


def table_for(grid: Grid, *, heads: int = 2) -> RelativeBias:
    bias = RelativeBias(heads, grid)
    nn.init.normal_(bias.table, generator=torch.Generator().manual_seed(2))
    return bias


@pytest.mark.parametrize("biased", [False, True], ids=["plain", "biased"])
@pytest.mark.parametrize("grid", GRIDS, ids=str)
@pytest.mark.parametrize("window", WINDOWS, ids=name_of)
def test_windowed_attention_equals_dense_attention_under_its_definition(
    window: Window, grid: Grid, biased: bool
):
    tensors = operands(grid)
    bias = table_for(grid) if biased else None
    table = None if bias is None else naive_bias(bias.table, grid, grid)
    expected = dense(*tensors, visible(window, grid), table)
    torch.testing.assert_close(attend(*tensors, window, bias=bias).double(), expected, atol=1e-5, rtol=1e-5)


def windows_of_presets() -> list[Window]:
    patterns = [
        patterns_of(each.config.get("pattern", STDIT_PATTERN), temporal=True) for each in PRESETS.values()
    ]
    return list(dict.fromkeys(window for each in patterns for windows in each for window in windows.values()))


@pytest.mark.parametrize("grid", [(5, 6, 7), (9, 3, 5)], ids=str)
@pytest.mark.parametrize("window", windows_of_presets(), ids=name_of)
def test_windows_of_every_preset_equal_the_definition_on_grids_that_clip_them(window: Window, grid: Grid):
    largest = tuple(min(size or whole, whole) for size, whole in zip(window.size, grid, strict=True))
    bias = table_for(largest)
    tensors, table = operands(grid, batch=1), naive_bias(bias.table, largest, grid)
    expected = dense(*tensors, visible(window, grid), table)
    torch.testing.assert_close(attend(*tensors, window, bias=bias).double(), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("window", WINDOWS, ids=name_of)
def test_gradients_of_windowed_attention_equal_those_of_dense_attention(window: Window):
    grid = (3, 4, 5)
    tensors, bias = operands(grid, learning=True), table_for(grid)
    weights = torch.randn(tensors[0].shape, generator=torch.Generator().manual_seed(1))
    learned = [*tensors, bias.table]
    ours = torch.autograd.grad((attend(*tensors, window, bias=bias) * weights).sum(), learned)
    table = naive_bias(bias.table, grid, grid)
    theirs = torch.autograd.grad((dense(*tensors, visible(window, grid), table) * weights).sum(), learned)
    for mine, expected in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, expected, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("biased", [False, True], ids=["plain", "biased"])
def test_frames_one_after_the_other_equal_the_mask(biased: bool, monkeypatch: pytest.MonkeyPatch):
    grid, window = (4, 6, 8), Window(size=(None, None, None), causal=True)
    tensors, bias = operands(grid), table_for(grid) if biased else None
    masked = attend(*tensors, window, bias=bias)
    monkeypatch.setattr(attention, "DENSE_TOKENS", 16)
    monkeypatch.setattr(attention, "mask_table", None)
    torch.testing.assert_close(attend(*tensors, window, bias=bias), masked, atol=1e-5, rtol=1e-5)


BLOCKS = [FrameBlocks(size=2), FrameBlocks(size=3, first=1), FrameBlocks(size=2, local=3, sink=1)]


@pytest.mark.parametrize("dense_tokens", [0, 1024], ids=["framewise", "masked"])
@pytest.mark.parametrize("blocks", BLOCKS, ids=str)
def test_frame_blocks_equal_dense_attention_under_their_definition(
    blocks: FrameBlocks, dense_tokens: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(attention, "DENSE_TOKENS", dense_tokens)
    grid, numbers = (7, 2, 3), tuple(range(7))
    tensors = operands(grid)
    mask = frame_mask(blocks, numbers, numbers)
    seen = torch.tensor([[blocks.sees(a // 6, b // 6) for b in range(42)] for a in range(42)])
    ours = attend(*tensors, Window(size=(None, None, None), causal=True), mask=mask)
    torch.testing.assert_close(ours.double(), dense(*tensors, seen), atol=1e-5, rtol=1e-5)


class LargestTensor(TorchDispatchMode):
    """Remembers the largest tensor that any operation returned."""

    def __init__(self) -> None:
        super().__init__()
        self.entries = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else (out,):
            if isinstance(tensor, Tensor):
                self.entries = max(self.entries, tensor.numel())
        return out


@pytest.mark.parametrize(
    "window",
    [
        ALL,
        Window(size=(None, None, None), causal=True),
        Window(size=(8, 32, 32), shift=(4, 16, 16)),
        Window(size=(3, 30, 31)),
    ],
    ids=name_of,
)
def test_a_large_grid_never_has_a_table_of_all_pairs(window: Window):
    grid = (4, 33, 33)  # 4356 tokens: a mask would have 19 million entries
    tensors = [torch.randn(1, *grid, 1, 8) for _ in range(3)]
    with LargestTensor() as largest:
        attend(*tensors, window)
    assert largest.entries <= 3 * tensors[0].numel()


def test_a_mask_of_few_tokens_made_during_inference_serves_training_later():
    window = Window(size=(None, None, None), causal=True)
    attention.mask_table.cache_clear()
    with torch.inference_mode():
        attend(*operands((2, 2, 2)), window)
    attend(*operands((2, 2, 2), learning=True), window).sum().backward()


@pytest.mark.parametrize("window", [ALL, Window(size=(2, 2, 2), causal=True)], ids=name_of)
def test_frame_blocks_in_a_window_that_cannot_hold_them_are_refused(window: Window):
    mask = frame_mask(FrameBlocks(size=2), tuple(range(4)), tuple(range(4)))
    with pytest.raises(ValueError, match="a causal window that spans all frames"):
        attend(*operands((4, 2, 2)), window, mask=mask)


def layer(window: Window, **parts: Any) -> SelfAttention:
    torch.manual_seed(0)
    parts = {"norm": QueryKeyNorm(8), "place": Rotary(8), **parts}
    return SelfAttention(2, 8, window, **parts)


def test_attention_in_a_frame_is_that_of_the_frame_alone():
    x = torch.randn(2, 3, 4, 5, 16, generator=torch.Generator().manual_seed(0))
    framewise = layer(FRAME, place=None)
    alone = torch.cat([framewise(frame) for frame in x.split(1, dim=1)], dim=1)
    torch.testing.assert_close(framewise(x), alone, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("window", [ALL, TUBE, Window(size=(2, 4, 3))], ids=name_of)
def test_images_of_a_stack_get_the_projection_of_their_own_values(window: Window):
    x = torch.randn(2, 4, 4, 6, 16, generator=torch.Generator().manual_seed(0))
    mixing = layer(window, bias=RelativeBias(2, (4, 4, 6)))
    out = mixing(x, torch.tensor([True, False]))
    expected = mixing.projection(nn.functional.linear(x[:1], mixing.qkv.weight[32:], mixing.qkv.bias[32:]))
    torch.testing.assert_close(out[:1], expected, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(out[1:], mixing(x)[1:], atol=1e-6, rtol=1e-5)


def test_images_of_a_stack_are_attended_as_usual_inside_a_frame():
    x = torch.randn(2, 4, 4, 6, 16, generator=torch.Generator().manual_seed(0))
    assert torch.equal(layer(FRAME)(x, torch.tensor([True, True])), layer(FRAME)(x))
