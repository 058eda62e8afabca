import random

import pytest

from components.data import item_places
from components.data.item_places import ItemPlace, ItemPlaces


@pytest.mark.parametrize("merged", [1, 7, 1000])
def test_places_are_found_as_in_a_dictionary_whenever_they_are_sorted_in(merged, monkeypatch):
    monkeypatch.setattr(item_places, "MERGED", merged)
    rng = random.Random(3)
    places, oracle = ItemPlaces(), dict[str, ItemPlace]()
    for number in range(500):
        key = f"key {rng.randrange(200)}"
        oracle[key] = ItemPlace(number % 3, number << 33, number)  # beyond 32 bits
        places.add(key, oracle[key])
        if number % 50 == 0:
            assert len(places) == len(oracle)
    keys = [f"key {number}" for number in range(250)]
    assert places.find(keys) == [oracle.get(key) for key in keys]
    assert [key in places for key in keys] == [key in oracle for key in keys]
    assert len(places) == len(oracle)


def test_nothing_is_found_where_nothing_is():
    assert ItemPlaces().find(["a", "b"]) == [None, None]
    assert ItemPlaces().find([]) == []
    assert len(ItemPlaces()) == 0
