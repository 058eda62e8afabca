"""Learned tables of positions: what a token gets, stacks of images, and another grid."""

import pytest
import torch

from models.transformers.conditions import Given
from models.transformers.token_positions import LearnedPositions, interpolate_table
from models.transformers.windows import Window

WIDTH = 8


def learned(*grid: int) -> LearnedPositions:
    torch.manual_seed(0)
    return LearnedPositions(WIDTH, 1, grid=grid)


def test_a_token_gets_the_entry_of_its_place_and_that_of_its_frame():
    positions = learned(3, 4, 5)
    out = positions(torch.zeros(2, 3, 4, 5, WIDTH), Given())
    assert torch.equal(out[1, 2, 3, 4], positions.places[3, 4] + positions.frames[2])
    assert torch.equal(out[0, 0, 1, 2], positions.places[1, 2] + positions.frames[0])


def test_every_image_of_a_stack_is_a_first_frame():
    positions = learned(3, 4, 5)
    out = positions(torch.zeros(2, 3, 4, 5, WIDTH), Given(images=torch.tensor([True, False])))
    assert torch.equal(out[0, 2], out[0, 0])
    assert not torch.equal(out[1, 2], out[1, 0])


def test_a_shorter_clip_is_at_the_start_of_the_table():
    positions = learned(3, 4, 5)
    whole = positions(torch.zeros(1, 3, 4, 5, WIDTH), Given())
    assert torch.equal(positions(torch.zeros(1, 2, 4, 5, WIDTH), Given()), whole[:, :2])


@pytest.mark.parametrize(
    ("grid", "said"),
    [
        ((4, 4, 5), r"4 token frames.* for 3.*grow\(model, positions"),
        ((3, 6, 5), "6 token rows.* for 4"),
        ((3, 4, 3), "3 token columns.* for 5"),
    ],
    ids=str,
)
def test_another_grid_is_refused_with_axis_value_and_way_out(grid: tuple[int, int, int], said: str):
    with pytest.raises(ValueError, match=said):
        learned(3, 4, 5)(torch.zeros(1, *grid, WIDTH), Given())


def test_windows_that_do_not_divide_the_grid_are_refused_with_the_next_sizes_that_do():
    with pytest.raises(
        ValueError, match="window `brick`: 18 token rows do not divide into windows of 8; use 16 or 24"
    ):
        learned(5, 18, 16).check_windows([{"brick": Window(size=(5, 8, 8))}])


def test_interpolation_is_exact_for_what_is_linear_and_keeps_the_corners():
    rows, columns = torch.meshgrid(torch.linspace(0, 1, 4), torch.linspace(0, 1, 4), indexing="ij")
    table = torch.stack((rows, columns, 2 * rows - columns), dim=-1)
    wide = interpolate_table(table, (4, 7))
    rows, columns = torch.meshgrid(torch.linspace(0, 1, 4), torch.linspace(0, 1, 7), indexing="ij")
    torch.testing.assert_close(wide, torch.stack((rows, columns, 2 * rows - columns), dim=-1))
    assert torch.equal(interpolate_table(table, (4, 4)), table)


def test_a_table_of_one_axis_is_interpolated_too():
    table = torch.arange(3.0)[:, None]
    torch.testing.assert_close(interpolate_table(table, (5,))[:, 0], torch.tensor([0.0, 0.5, 1.0, 1.5, 2.0]))
