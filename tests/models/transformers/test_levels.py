"""Merging and splitting tokens, on grids that divide and grids that do not."""

import pytest
import torch

from models.transformers.levels import Merge, Split, passages

WIDTH = 3


@pytest.mark.parametrize("grid", [(4, 6), (5, 6), (4, 7), (3, 5), (1, 1)], ids=str)
def test_a_merged_token_is_a_projection_of_its_four_tokens_and_zeros_past_the_edge(grid: tuple[int, int]):
    rows, columns = grid
    merge, skips = Merge(WIDTH), []
    x = torch.randn(2, 3, rows, columns, WIDTH)
    merged = merge(x, skips)
    assert merged.shape == (2, 3, -(-rows // 2), -(-columns // 2), WIDTH)
    assert skips == [x]
    padded = torch.zeros(2, 3, rows + 1, columns + 1, WIDTH)
    padded[:, :, :rows, :columns] = x
    for i in range(merged.shape[2]):
        for j in range(merged.shape[3]):
            corners = [padded[:, :, 2 * i + a, 2 * j + b] for a in (0, 1) for b in (0, 1)]
            torch.testing.assert_close(merged[:, :, i, j], merge.projection(torch.cat(corners, dim=-1)))


@pytest.mark.parametrize("grid", [(4, 6), (5, 6), (4, 7), (3, 5), (1, 1)], ids=str)
def test_splitting_fills_the_fine_grid_and_mixes_half_of_each_at_the_start(grid: tuple[int, int]):
    rows, columns = grid
    split = Split(WIDTH)
    fine = torch.randn(2, 3, rows, columns, WIDTH)
    coarse = torch.randn(2, 3, -(-rows // 2), -(-columns // 2), WIDTH)
    out = split(coarse, skips := [fine])
    assert not skips
    values = split.projection(coarse).unflatten(-1, (4, WIDTH))
    for i in range(rows):
        for j in range(columns):
            up = values[:, :, i // 2, j // 2, 2 * (i % 2) + j % 2]
            torch.testing.assert_close(out[:, :, i, j], (fine[:, :, i, j] + up) / 2)


def test_the_mix_is_learned():
    split = Split(WIDTH)
    fine, coarse = torch.randn(1, 1, 2, 2, WIDTH), torch.randn(1, 1, 1, 1, WIDTH)
    with torch.no_grad():
        split.mix.fill_(0.0)
    assert torch.equal(split(coarse, [fine]), fine)
    split(coarse, [fine]).sum().backward()
    assert split.mix.grad != 0


def test_the_deepest_level_comes_up_first():
    way = passages([1, 2, 3, 2, 1], WIDTH)
    skips: list[torch.Tensor] = []
    x = torch.randn(1, 2, 6, 10, WIDTH)
    sides = []
    for passage in way:
        x = passage(x, skips)
        sides.append(tuple(x.shape[2:4]))
    assert sides == [(6, 10), (3, 5), (2, 3), (3, 5), (6, 10)]
    assert not skips


@pytest.mark.parametrize("depths", [[], [1, 2], [1, 2, 3], [1, 0, 1]], ids=str)
def test_depths_that_are_no_hourglass_are_refused(depths: list[int]):
    with pytest.raises(ValueError, match="no hourglass"):
        passages(depths, WIDTH)


def test_the_way_up_works_where_autocast_leaves_the_two_levels_in_different_precisions():
    split, fine, coarse = Split(WIDTH), torch.randn(1, 2, 4, 4, WIDTH), torch.randn(1, 2, 2, 2, WIDTH)
    exact = split(coarse, [fine])
    with torch.autocast("cpu", torch.bfloat16):
        mixed = split(coarse, [fine])  # the projection comes out in bf16, what was kept is float32
    assert mixed.dtype == torch.float32
    torch.testing.assert_close(mixed, exact, rtol=0.02, atol=0.02)
