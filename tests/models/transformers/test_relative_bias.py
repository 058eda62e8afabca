"""Relative position bias: every pair of tokens gets the entry of its offset, in whole windows and in clipped ones."""

import pytest
import torch
from torch import nn

from models.transformers.relative_bias import RelativeBias, resize_table
from models.transformers.windows import Grid
from tests.models.transformers.dense_attention import naive_bias

WINDOW = (3, 4, 5)


def biased(window: Grid = WINDOW, heads: int = 2) -> RelativeBias:
    bias = RelativeBias(heads, window)
    nn.init.normal_(bias.table, generator=torch.Generator().manual_seed(0))
    return bias


@pytest.mark.parametrize("cell", [WINDOW, (2, 4, 5), (3, 2, 5), (3, 4, 1), (1, 3, 2)], ids=str)
def test_the_bias_of_a_pair_is_the_entry_of_its_offset_also_in_clipped_windows(cell: Grid):
    bias = biased()
    assert torch.equal(bias(cell)[0], naive_bias(bias.table, WINDOW, cell))


def test_the_table_has_one_row_per_offset_and_one_column_per_head():
    assert RelativeBias(16, (5, 8, 8)).table.shape == (9 * 15 * 15, 16)


@pytest.mark.parametrize("cell", [WINDOW, (2, 3, 4)], ids=str)
def test_the_rule_for_flex_attention_is_the_bias(cell: Grid):
    bias, tokens = biased(), cell[0] * cell[1] * cell[2]
    rule = bias.score_rule(cell)
    head, query, key = torch.meshgrid(*map(torch.arange, (2, tokens, tokens)), indexing="ij")
    scores = rule(torch.zeros(head.shape), torch.zeros_like(head), head, query, key)
    assert torch.equal(scores, bias(cell)[0])


def test_resizing_keeps_the_centre_and_the_corners():
    bias = biased((1, 16, 16))
    wide = resize_table(bias.table, (1, 16, 16), (1, 16, 28)).view(31, 55, 2)
    old = bias.table.view(31, 31, 2)
    torch.testing.assert_close(wide[:, 27], old[:, 15])
    torch.testing.assert_close(wide[:, [0, -1]], old[:, [0, -1]])
    assert RelativeBias(2, (1, 16, 28)).table.shape == (31 * 55, 2)


def test_resizing_to_the_same_window_changes_nothing_and_a_ramp_stays_a_ramp():
    bias = biased()
    torch.testing.assert_close(resize_table(bias.table, WINDOW, WINDOW), bias.table)
    ramp = torch.linspace(-1, 1, 9).view(9, 1)
    torch.testing.assert_close(
        resize_table(ramp, (1, 1, 5), (1, 1, 8)), torch.linspace(-1, 1, 15).view(15, 1)
    )


def test_a_window_larger_than_the_table_names_its_axis():
    with pytest.raises(ValueError, match="5 tokens on axis h, but the relative position bias is for 4"):
        biased()((3, 5, 5))


def test_a_bias_too_large_for_memory_is_refused_with_the_way_out():
    with pytest.raises(ValueError, match="use smaller windows"):
        biased((13, 30, 45))((13, 30, 45))
