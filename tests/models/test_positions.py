"""Positions: the published tables."""

import pytest
import torch
from diffusers.models.embeddings import get_2d_sincos_pos_embed, get_timestep_embedding

from models.positions import frame_positions, sinusoid


@pytest.mark.parametrize("grid", [(4, 4), (8, 8), (6, 10)], ids=str)
def test_frame_positions_are_the_table_of_pixart(grid: tuple[int, int]):
    scale = 2.0
    side = round((grid[0] * grid[1]) ** 0.5)
    expected = get_2d_sincos_pos_embed(64, grid, base_size=side, interpolation_scale=scale).float()
    table = frame_positions(grid, 64, torch.tensor([scale]))
    assert table.shape == (1, 1, *grid, 64)
    torch.testing.assert_close(table.view(-1, 64), expected, atol=1e-5, rtol=0)


def test_each_sample_has_the_positions_of_its_own_size():
    both = frame_positions((4, 4), 32, torch.tensor([1.0, 0.5]))
    torch.testing.assert_close(both[1:], frame_positions((4, 4), 32, torch.tensor([0.5])))
    assert not torch.equal(both[0], both[1])


def test_sinusoid_is_the_timestep_embedding_of_dit():
    times = torch.tensor([0.0, 0.5, 317.25, 1000.0])
    expected = get_timestep_embedding(times, 256, flip_sin_to_cos=True, downscale_freq_shift=0)
    torch.testing.assert_close(sinusoid(times, 256), expected, atol=2e-4, rtol=0)
