import math

import pytest

from components.evaluation.vbench import DIMENSIONS, aggregate, group_score, total_score


def raw(value):
    """Scores that normalise to `value` everywhere."""
    return {name: one.low + value * (one.high - one.low) for name, one in DIMENSIONS.items()}


def test_sixteen_dimensions_in_two_groups():
    groups = [dimension.group for dimension in DIMENSIONS.values()]
    assert (groups.count("quality"), groups.count("semantic")) == (7, 9)
    assert sum(one.weight for one in DIMENSIONS.values() if one.group == "quality") == 6.5


@pytest.mark.parametrize("value", [0.0, 0.4, 1.0])
def test_equal_normalised_scores_are_their_own_mean(value):
    assert aggregate(raw(value)) == pytest.approx({"quality": value, "semantic": value, "total": value})


def test_scores_below_the_lowest_are_not_clipped():
    assert aggregate(dict.fromkeys(DIMENSIONS, 0.0))["total"] == pytest.approx(-0.57, abs=0.005)


def test_a_model_that_does_not_move_still_scores_high():
    still = raw(1.0) | {"dynamic_degree": 0.0}
    found = aggregate(still)
    assert (found["quality"], found["total"]) == pytest.approx((0.923, 0.938), abs=0.0005)


@pytest.mark.parametrize(
    ("name", "worth"), [("imaging_quality", 0.1231), ("dynamic_degree", 0.0615), ("scene", 0.0222)]
)
def test_one_normalised_unit_of_a_dimension_is_worth_its_published_share_of_the_total(name, worth):
    dimension = DIMENSIONS[name]
    more = raw(0.5) | {name: dimension.low + 1.5 * (dimension.high - dimension.low)}
    assert aggregate(more)["total"] - aggregate(raw(0.5))["total"] == pytest.approx(worth, abs=5e-5)


# total, quality, semantic of the leaderboard
PUBLISHED = {
    "Open-Sora 1.2, report": (79.76, 81.35, 73.39),
    "Open-Sora 1.2, repository": (79.23, 80.71, 73.30),
    "Gen-3": (82.32, 84.11, 75.17),
    "Kling": (81.85, 83.39, 75.68),
    "CogVideoX-5B": (81.61, 82.75, 77.04),
    "CogVideoX-2B": (80.91, 82.18, 75.83),
    "T2V-Turbo": (81.01, 82.57, 74.76),
    "Pika 1.0": (80.69, 82.92, 71.77),
    "Gen-2": (80.58, 82.47, 73.03),
    "AnimateDiff-V2": (80.27, 82.90, 69.75),
    "VideoCrafter-2.0": (80.44, 82.20, 73.42),
    "LaVie": (77.08, 78.78, 70.31),
}


@pytest.mark.parametrize(("total", "quality", "semantic"), PUBLISHED.values(), ids=PUBLISHED)
def test_the_published_totals_follow_from_their_groups(total, quality, semantic):
    assert total_score(quality, semantic) == pytest.approx(total, abs=0.01)


def test_the_names_of_vbenchs_tables_are_those_of_its_files():
    named = {name.replace("_", " ").capitalize(): score for name, score in raw(0.4).items()}
    assert aggregate(named) == aggregate(raw(0.4))
    with pytest.raises(ValueError, match="object_class is given twice"):
        aggregate(raw(0.4) | {"object class": 0.4})


def test_scores_in_per_cent_are_refused():
    with pytest.raises(ValueError, match="imaging_quality are above 2; raw scores are fractions"):
        aggregate(raw(0.5) | {"imaging_quality": 68.3})


def test_a_missing_dimension_leaves_its_group_without_a_score():
    scores = raw(0.5)
    del scores["scene"]
    assert group_score(scores, "quality") == pytest.approx(0.5)
    with pytest.raises(ValueError, match="scene are missing, and semantic is not a score without them"):
        aggregate(scores)


def test_unknown_names_and_numbers_that_are_none_are_refused():
    with pytest.raises(ValueError, match="colour are no VBench dimensions"):
        aggregate(raw(0.5) | {"colour": 1.0})
    with pytest.raises(ValueError, match="color have no finite score"):
        aggregate(raw(0.5) | {"color": math.nan})
    with pytest.raises(ValueError, match="color have no finite score"):
        aggregate(raw(0.5) | {"color": None})
