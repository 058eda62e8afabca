"""Rotary phases: a score depends on the difference of two positions only, in time and in space."""

import pytest
import torch
from torch import Tensor

from models.transformers.rotary import Rotary


def scores(rotary: Rotary, grid: tuple[int, int, int], first_frame: int = 0) -> Tensor:
    """(T, H, W, T, H, W): the same query and key at all places."""
    torch.manual_seed(0)
    pair = torch.randn(2, 16)
    turned = rotary(pair.view(1, 1, 1, 1, 2, 1, 16).expand(1, *grid, 2, 1, 16), first_frame)[0, :, :, :, :, 0]
    query, key = turned.unbind(3)
    return torch.einsum("thwk,abck->thwabc", query, key)


def test_scores_depend_on_the_difference_of_frames_only():
    turned = scores(Rotary(16), (9, 1, 1)).view(9, 9)
    for offset in range(-4, 5):
        diagonal = turned.diagonal(offset)
        torch.testing.assert_close(diagonal, diagonal[:1].expand_as(diagonal), atol=1e-5, rtol=1e-5)
    assert turned[0].std() > 1e-3


@pytest.mark.parametrize("rotary", [Rotary(8, 4, 4), Rotary(4, 6, 6), Rotary(0, 8, 8)], ids=str)
def test_scores_depend_on_the_offset_in_time_and_space_only(rotary: Rotary):
    grid = (3, 4, 5)
    turned = scores(rotary, grid)
    moved = turned[1:, 1:, 2:, 1:, 1:, 2:]
    torch.testing.assert_close(moved, turned[:-1, :-1, :-2, :-1, :-1, :-2], atol=1e-5, rtol=1e-5)
    assert turned[0, 0, 0, 0].std() > 1e-3
    assert (turned[0, 0, 0, 1:, 0, 0] != turned[0, 0, 0, 0, 0, 0]).all() == (rotary.time > 0)


def test_the_turn_is_that_of_the_definition():
    x = torch.randn(1, 3, 2, 2, 2, 1, 8, generator=torch.Generator().manual_seed(0))
    turned = Rotary(4, 2, 2)(x, first_frame=5)
    for place, position in ((0, 5 + 2), (1, 5 + 2), (2, 1), (3, 0)):  # channel pair -> position at (2, 1, 0)
        frequency = 10_000 ** (-place / 2) if place < 2 else 1.0
        angle = torch.tensor(position * frequency)
        a, b = x[0, 2, 1, 0, 0, 0, 2 * place : 2 * place + 2]
        expected = torch.stack((a * angle.cos() - b * angle.sin(), a * angle.sin() + b * angle.cos()))
        torch.testing.assert_close(
            turned[0, 2, 1, 0, 0, 0, 2 * place : 2 * place + 2], expected, atol=1e-5, rtol=1e-5
        )


@pytest.mark.parametrize("rotary", [Rotary(16), Rotary(8, 4, 4)], ids=str)
def test_frames_that_come_later_are_turned_as_in_the_whole_video(rotary: Rotary):
    x = torch.randn(1, 6, 2, 3, 2, 1, 16, generator=torch.Generator().manual_seed(0))
    assert torch.equal(rotary(x)[:, 4:], rotary(x[:, 4:], first_frame=4))


def test_phases_keep_their_precision_in_bfloat16():
    x = torch.randn(1, 120, 1, 1, 2, 1, 64, generator=torch.Generator().manual_seed(0)).bfloat16()
    exact = Rotary(64)(x.float())
    torch.testing.assert_close(Rotary(64)(x).float(), exact, atol=0, rtol=2**-7)


def test_phases_made_during_inference_serve_training_later():
    with torch.inference_mode():
        Rotary(8)(torch.randn(1, 11, 1, 1, 2, 1, 8))
    x = torch.randn(1, 11, 1, 1, 2, 1, 8, requires_grad=True)
    Rotary(8)(x).sum().backward()
    assert x.grad is not None


def test_a_split_that_does_not_fit_the_head_is_refused():
    with pytest.raises(ValueError, match="does not add up to the head width 16"):
        Rotary(8, 4, 2)(torch.zeros(1, 1, 1, 1, 2, 1, 16))
    with pytest.raises(ValueError, match="rotary height: 3 channels"):
        Rotary(8, 3, 5)
