"""Nothing gets lost: a stage whose numbers do not add up stops by name."""

import pytest

from components.data.balance import balance, first_reasons
from components.errors import DataQualityError


def test_what_adds_up_is_reported_without_empty_reasons():
    found = balance("filter", "clips", 9, 6, {"blurry": 2, "too_dark": 1, "black": 0})
    assert found == {"in": 9, "kept": 6, "blurry": 2, "too_dark": 1}


@pytest.mark.parametrize(("given", "message"), [(10, "1 are missing"), (8, "1 are too many")])
def test_what_does_not_add_up_fails_the_stage_by_name(given, message):
    with pytest.raises(
        DataQualityError, match=rf"filter: the clips do not balance: {given} went in.*{message}"
    ):
        balance("filter", "clips", given, 6, {"blurry": 3})


def test_negative_numbers_never_balance():
    with pytest.raises(DataQualityError, match="split: the files"):
        balance("split", "files", 5, 6, {"too_short": -1})


def test_an_item_counts_once_by_its_first_reason():
    assert first_reasons([[], ["blurry", "too_dark"], ["too_dark"], ["blurry"]]) == {
        "blurry": 2,
        "too_dark": 1,
    }
