"""Attention in windows against its definition: `(index - shift) // size` agrees on each axis, and no later frame."""

import itertools

import pytest
import torch
from torch import Tensor

from models.transformers import attention, windows
from models.transformers.attention import attend, explicit, run_kernel, sdpa
from models.transformers.windows import ALL, FRAME, TUBE, Grid, Window, group, partition, score_bias, ungroup

GRID = (4, 6, 8)
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
    Window(size=(16, 1, 1), shift=(9, 0, 0)),
    Window(size=(None, None, None), causal=True),
    Window(size=(None, 1, 1), causal=True),
    Window(size=(2, None, None), causal=True),
]


def name_of(window: Window) -> str:
    size = "x".join(str(n or "all") for n in window.size)
    return f"{size}{window.shift if any(window.shift) else ''}{'causal' if window.causal else ''}"


def visible(window: Window, grid: Grid) -> Tensor:
    """(tokens, tokens) bool, by the definition, token by token."""
    cells = list(itertools.product(*(range(n) for n in grid)))
    spans = [size or whole for size, whole in zip(window.size, grid, strict=True)]

    def cell(index: tuple[int, ...]) -> list[int]:
        return [(i - shift) // span for i, shift, span in zip(index, window.shift, spans, strict=True)]

    return torch.tensor(
        [[cell(a) == cell(b) and (not window.causal or b[0] <= a[0]) for b in cells] for a in cells]
    )


def dense(query: Tensor, key: Tensor, value: Tensor, window: Window) -> Tensor:
    grid = (query.shape[1], query.shape[2], query.shape[3])
    flat = [x.flatten(1, 3).transpose(1, 2).double() for x in (query, key, value)]
    scores = flat[0] @ flat[1].mT / query.shape[-1] ** 0.5
    weights = scores.masked_fill(~visible(window, grid), float("-inf")).softmax(-1)
    return (weights @ flat[2]).transpose(1, 2).reshape(query.shape)


def operands(grid: Grid, *, learning: bool = False) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(2, *grid, 2, 8, generator=generator).requires_grad_(learning) for _ in range(3)]


@pytest.mark.parametrize("window", WINDOWS, ids=name_of)
def test_windowed_attention_equals_dense_attention_under_its_definition(window: Window):
    query, key, value = operands(GRID)
    expected = dense(query, key, value, window)
    torch.testing.assert_close(attend(query, key, value, window).double(), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("window", WINDOWS, ids=name_of)
def test_gradients_of_windowed_attention_equal_those_of_dense_attention(window: Window):
    tensors = operands((3, 4, 5), learning=True)
    weights = torch.randn(tensors[0].shape, generator=torch.Generator().manual_seed(1))
    ours = torch.autograd.grad((attend(*tensors, window) * weights).sum(), tensors)
    theirs = torch.autograd.grad((dense(*tensors, window) * weights).sum(), tensors)
    for mine, expected in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("window", [FRAME, TUBE, ALL, Window(size=(2, 3, 4))], ids=name_of)
def test_windows_that_tile_the_grid_build_no_mask(window: Window, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(attention, "score_bias", None)
    attend(*operands(GRID), window)


def test_a_long_causal_sequence_runs_frame_by_frame_and_equals_the_definition(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(attention, "FRAMEWISE_TOKENS", 16)
    monkeypatch.setattr(attention, "score_bias", None)
    window = Window(size=(None, None, None), causal=True)
    tensors = operands(GRID)
    torch.testing.assert_close(
        attend(*tensors, window).double(), dense(*tensors, window), atol=1e-5, rtol=1e-5
    )


@pytest.mark.parametrize("window", WINDOWS, ids=name_of)
def test_ungroup_undoes_group(window: Window):
    x = torch.arange(2 * 4 * 6 * 8 * 3).view(2, *GRID, 3)
    part = partition(window, GRID)
    assert torch.equal(ungroup(group(x, part), part), x)


def test_every_kernel_gives_the_same_attention():
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(6, 5, 2, 8, generator=generator)
    key, value = torch.randn(2, 6, 7, 2, 8, generator=generator)
    bias = torch.where(torch.rand(6, 1, 1, 7, generator=generator) < 0.5, 0.0, windows.UNSEEN)
    for given in (None, bias, bias[:1]):
        torch.testing.assert_close(explicit(query, key, value, given), sdpa(query, key, value, given))


def test_more_groups_than_one_launch_takes_are_split(monkeypatch: pytest.MonkeyPatch):
    query, key, value = torch.randn(3, 10, 4, 2, 8, generator=torch.Generator().manual_seed(0))
    for bias in (None, torch.randn(1, 1, 4, 4), torch.randn(10, 1, 4, 4)):
        whole = sdpa(query, key, value, bias)
        with monkeypatch.context() as patch:
            patch.setattr(attention, "MAX_GROUPS", 3)
            torch.testing.assert_close(sdpa(query, key, value, bias), whole)


def test_a_row_that_sees_nothing_has_no_nan():
    query, key, value = torch.randn(3, 2, 4, 2, 8, generator=torch.Generator().manual_seed(0))
    assert run_kernel(query, key, value, torch.full((2, 1, 1, 4), windows.UNSEEN)).isfinite().all()


def test_a_mask_made_during_inference_serves_training_later():
    window = Window(size=(2, 2, 2), shift=(1, 1, 1))
    score_bias.cache_clear()
    with torch.inference_mode():
        attend(*operands(GRID), window)
    attend(*operands(GRID, learning=True), window).sum().backward()


@pytest.mark.parametrize(
    ("size", "shift", "word"),
    [((0, 1, 1), (0, 0, 0), "size 0 on axis t"), ((2, 2, 2), (0, 2, 0), "shift 2 on axis h")],
)
def test_an_impossible_window_names_its_axis(size: Grid, shift: Grid, word: str):
    with pytest.raises(ValueError, match=word):
        Window(size=size, shift=shift)


def test_a_mask_too_large_for_memory_is_refused_with_the_way_out():
    with pytest.raises(ValueError, match="use smaller windows"):
        score_bias(Window(size=(13, 30, 45), shift=(6, 0, 0)), (13, 30, 45), torch.device("cpu"))
