"""Frame masks: every strategy is valid at every length, and shares and shapes are those published."""

from dataclasses import asdict

import pytest
import torch

from models.diffusion.frame_masks import PUBLISHED, STRATEGIES, FrameMasks, FramePrediction


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
    mask = PUBLISHED["adapt"].draw(8000, 12, seeded())
    assert mask.all(dim=1).float().mean().item() == pytest.approx(0.5, abs=0.02)


def test_equal_seeds_give_equal_masks():
    assert torch.equal(PUBLISHED["adapt"].draw(50, 9, seeded(3)), PUBLISHED["adapt"].draw(50, 9, seeded(3)))
    assert not torch.equal(
        PUBLISHED["adapt"].draw(50, 9, seeded(3)), PUBLISHED["adapt"].draw(50, 9, seeded(4))
    )


def test_shares_above_one_are_refused():
    with pytest.raises(ValueError, match="at most 1"):
        FrameMasks(random=0.7, image_head=0.4)


TOTALS = {"adapt": 0.5, "stage1": 0.2, "stage2": 0.2, "stage2_july": 0.25, "stage3": 0.25}


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_shares_have_their_published_sums(name):
    assert sum(asdict(PUBLISHED[name]).values()) == pytest.approx(TOTALS[name])
    assert set(PUBLISHED) == set(TOTALS)


@pytest.mark.parametrize("name", PUBLISHED)
@pytest.mark.parametrize("frames", [1, 2, 3, 15])
def test_the_published_shares_work_at_every_length(name, frames):
    mask = PUBLISHED[name].draw(2000, frames, seeded())
    assert mask.any(dim=1).all()
    share = (~mask).any(dim=1).float().mean().item()
    if frames == 1:
        assert share == 0
    else:  # of few frames, "random" often gives none
        rarely = PUBLISHED[name].random / frames
        assert TOTALS[name] - rarely - 0.03 < share < TOTALS[name] + 0.03


def test_the_third_stage_mostly_animates_images():
    given = ~PUBLISHED["stage3"].draw(8000, 8, seeded())
    first_only = given[:, 0] & (given.sum(dim=1) == 1)
    assert 0.2 < first_only.float().mean().item() < 0.25


class TestFramePrediction:
    def test_one_or_two_first_frames_are_given_equally_often(self):
        given = ~FramePrediction(probability=0.5).draw(6000, 5, seeded())
        shares = [(given.sum(dim=1) == count).float().mean().item() for count in (0, 1, 2)]
        assert shares == pytest.approx([0.5, 0.25, 0.25], abs=0.03)
        assert (given.int().diff(dim=1) <= 0).all()  # from the first frame on, without gaps

    @pytest.mark.parametrize("frames", [1, 2, 3])
    def test_there_is_always_a_frame_to_generate(self, frames):
        mask = FramePrediction(probability=1.0, longest=4).draw(300, frames, seeded())
        assert mask.any(dim=1).all()
        assert (~mask).any() == (frames > 1)

    def test_without_a_share_nothing_is_given(self):
        assert not FramePrediction(probability=0.0).any
        assert FramePrediction(probability=0.0).draw(50, 5, seeded()).all()

    @pytest.mark.parametrize("options", [{"probability": 1.2}, {"longest": 0}])
    def test_what_cannot_be_is_refused(self, options):
        with pytest.raises(ValueError, match="must be"):
            FramePrediction(**options)
