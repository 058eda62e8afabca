"""Where the results of millions of items lie, in a few bytes each: numbers in arrays, and no text.

Keys are known by their 64-bit hash. What is read at a place holds its key, so that a foreign result is told apart.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

MERGED = 1 << 16  # places that are sorted into the others together


class ItemPlace(NamedTuple):
    """A stretch of bytes in a file of a list."""

    file: int
    first: int
    length: int


class ItemPlaces:
    """key -> place; of several places of a key the last one counts."""

    def __init__(self) -> None:
        self._hashes: NDArray[np.int64] = np.zeros(0, np.int64)  # sorted
        self._places: NDArray[np.int64] = np.zeros((0, 3), np.int64)
        self._recent: dict[int, ItemPlace] = {}

    def add(self, key: str, place: ItemPlace) -> None:
        self._recent[hash(key)] = place
        if len(self._recent) >= MERGED:
            self._merge()

    def __contains__(self, key: str) -> bool:
        return self.find([key])[0] is not None

    def __len__(self) -> int:
        self._merge()
        return len(self._hashes)

    def find(self, keys: Sequence[str]) -> list[ItemPlace | None]:
        """The place of each key, None where there is none."""
        hashes = np.fromiter(map(hash, keys), np.int64, len(keys))
        rows = np.searchsorted(self._hashes, hashes)
        found: list[ItemPlace | None] = [None] * len(keys)
        if len(self._hashes):
            known = np.flatnonzero(self._hashes[np.minimum(rows, len(self._hashes) - 1)] == hashes)
            for index, place in zip(known.tolist(), self._places[rows[known]].tolist(), strict=True):
                found[index] = ItemPlace(*place)
        if self._recent:
            found = [self._recent.get(one, place) for one, place in zip(hashes.tolist(), found, strict=True)]
        return found

    def _merge(self) -> None:
        if not self._recent:
            return
        hashes = np.concatenate([self._hashes, np.fromiter(self._recent, np.int64, len(self._recent))])
        places = np.concatenate([self._places, np.array(list(self._recent.values()), np.int64)])
        order = np.argsort(hashes, kind="stable")
        last = np.append(hashes[order][1:] != hashes[order][:-1], True)  # of those that are equal
        self._hashes, self._places = hashes[order][last], places[order][last]
        self._recent = {}
