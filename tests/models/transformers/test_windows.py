"""Windows as data: how a grid falls into cells, and that cutting and grouping tokens lose none."""

import itertools

import pytest
import torch

from models.transformers.windows import (
    ALL,
    FRAME,
    TUBE,
    Grid,
    Run,
    Window,
    cells,
    group,
    join,
    split,
    ungroup,
)

GRID = (4, 6, 8)
WINDOWS = [
    FRAME,
    TUBE,
    ALL,
    Window(size=(2, 3, 4)),
    Window(size=(2, 3, 4), shift=(1, 1, 2)),
    Window(size=(3, 4, 5), shift=(2, 3, 1)),
    Window(size=(8, 7, 7), shift=(4, 3, 3)),
]


@pytest.mark.parametrize("window", WINDOWS, ids=str)
@pytest.mark.parametrize("grid", [GRID, (3, 5, 7), (1, 1, 9)], ids=str)
def test_tokens_share_a_cell_exactly_where_the_definition_says(window: Window, grid: Grid):
    parts = cells(window, grid)
    places = torch.stack(torch.meshgrid(*map(torch.arange, grid), indexing="ij"), dim=-1)[None]
    spans = torch.tensor([size or whole for size, whole in zip(window.size, grid, strict=True)])
    seen = set()
    for piece, (region, cell) in zip(split(places, parts), parts.regions(), strict=True):
        assert piece.shape[1:4] == region
        for tokens in group(piece, cell):
            labels = (tokens - torch.tensor(window.shift)).div(spans, rounding_mode="floor")
            assert (labels == labels[0]).all()
            seen.add(tuple(labels[0].tolist()))
    cell_count = sum(
        len(group(piece, cell))
        for piece, (_, cell) in zip(split(places, parts), parts.regions(), strict=True)
    )
    assert len(seen) == cell_count  # no cell of the definition is in two pieces


@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_joining_what_was_split_and_grouped_gives_the_grid_back(window: Window):
    x = torch.arange(2 * 4 * 6 * 8 * 3).view(2, *GRID, 3)
    parts = cells(window, GRID)
    pieces = [
        ungroup(group(piece, cell), cell, region)
        for piece, (region, cell) in zip(split(x, parts), parts.regions(), strict=True)
    ]
    assert torch.equal(join(pieces, parts), x)


def test_a_grid_has_at_most_27_sizes_of_cells():
    for size, shift, whole in itertools.product(range(1, 9), range(8), range(1, 12)):
        if shift < size:
            runs = cells(Window(size=(size, 1, 1), shift=(shift, 0, 0)), (whole, 1, 1)).axes[0]
            assert len(runs) <= 3
            assert sum(run.length for run in runs) == whole
            assert all(run.length % run.cell == 0 and run.cell <= size for run in runs)


def test_a_half_shift_of_one_window_is_two_equal_cells():
    assert cells(Window(size=(1, 8, 1), shift=(0, 4, 0)), (1, 8, 1)).axes[1] == (Run(8, 4),)


@pytest.mark.parametrize(
    ("size", "shift", "word"),
    [((0, 1, 1), (0, 0, 0), "size 0 on axis t"), ((2, 2, 2), (0, 2, 0), "shift 2 on axis h")],
)
def test_an_impossible_window_names_its_axis(size: Grid, shift: Grid, word: str):
    with pytest.raises(ValueError, match=word):
        Window(size=size, shift=shift)
