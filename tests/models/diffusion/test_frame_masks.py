"""Frame masks: every strategy is valid at every length, and shares and shapes are those published."""

import pytest
import torch

from models.diffusion.frame_masks import STRATEGIES, FrameMasks

ADAPT = FrameMasks(
    random=0.2,
    interpolate=0.01,
    quarter_random=0.01,
    quarter_head=0.01,
    quarter_tail=0.01,
    quarter_head_tail=0.01,
    image_random=0.05,
    image_head=0.1,
    image_tail=0.05,
    image_head_tail=0.05,
)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def only(name: str, frames: int, batch: int = 200) -> torch.Tensor:
    return FrameMasks(**{name: 1.0}).draw(batch, frames, seeded())


@pytest.mark.parametrize("name", STRATEGIES)
@pytest.mark.parametrize("frames", range(1, 21))
def test_every_strategy_leaves_something_to_generate(name, frames):
    mask = only(name, frames, batch=40)
    assert mask.shape == (40, frames)
    assert mask.dtype == torch.bool
    assert mask.any(dim=1).all()


@pytest.mark.parametrize("name", [name for name in STRATEGIES if name != "random"])
@pytest.mark.parametrize("frames", range(2, 21))
def test_every_strategy_gives_at_least_one_frame_of_a_video(name, frames):
    assert (~only(name, frames, batch=40)).any(dim=1).all()


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_still_image_is_never_masked(name):
    assert only(name, 1).all()


def test_image_strategies_give_exactly_the_named_frames():
    given = ~only("image_head", 8)
    assert given[:, 0].all()
    assert (given.sum(dim=1) == 1).all()
    given = ~only("image_tail", 8)
    assert given[:, -1].all()
    assert (given.sum(dim=1) == 1).all()
    given = ~only("image_head_tail", 8)
    assert given[:, [0, -1]].all()
    assert (given.sum(dim=1) == 2).all()
    given = ~only("image_random", 8)
    assert (given.sum(dim=1) == 1).all()
    assert given.any(dim=0).all()


def test_quarter_runs_are_one_piece_of_one_to_a_quarter_of_the_frames():
    given = ~only("quarter_random", 16, batch=400)
    lengths = given.sum(dim=1)
    starts_of_runs = (given[:, 1:] & ~given[:, :-1]).sum(dim=1) + given[:, 0]
    assert set(lengths.tolist()) == {1, 2, 3, 4}
    assert (starts_of_runs == 1).all()
    both = ~only("quarter_head_tail", 16)
    assert (both == both.flip(1)).all()


def test_interpolation_gives_every_second_frame_from_either_start():
    masks = {tuple(row.tolist()) for row in only("interpolate", 4)}
    assert masks == {(True, False, True, False), (False, True, False, True)}


def test_random_masks_cover_few_and_many_frames():
    share = (~only("random", 20, batch=4000)).float().mean(dim=1)
    assert share.mean().item() == pytest.approx(0.5, abs=0.02)
    # variance of U(0.1, 0.9) plus the mean binomial variance over 20 frames
    variance = 0.8**2 / 12 + (0.25 - 0.8**2 / 12) / 20
    assert share.var().item() == pytest.approx(variance, rel=0.1)


def test_the_rest_of_the_shares_is_unmasked():
    mask = ADAPT.draw(8000, 12, seeded())
    assert mask.all(dim=1).float().mean().item() == pytest.approx(0.5, abs=0.02)


def test_equal_seeds_give_equal_masks():
    assert torch.equal(ADAPT.draw(50, 9, seeded(3)), ADAPT.draw(50, 9, seeded(3)))
    assert not torch.equal(ADAPT.draw(50, 9, seeded(3)), ADAPT.draw(50, 9, seeded(4)))


def test_shares_above_one_are_refused():
    with pytest.raises(ValueError, match="at most 1"):
        FrameMasks(random=0.7, image_head=0.4)
