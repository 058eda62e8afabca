"""Pairs of vectors that are alike: all with all where they are few, within clusters where they are many.

Clusters spare comparisons and lose no pair. Of two vectors no further apart than d that lie in different
clusters, one is within d / 2 of the plane between the two centres; so each cluster is compared with itself and
with the vectors that come that near to it. Both ways give the same pairs, whatever the clusters look like.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]  # (n, d), of length 1 each, or 0
Indices = NDArray[np.int64]
BLOCK_ROWS = 2048
SAMPLE = 64  # vectors per cluster that the centres are learnt from
SLACK = 1e-3  # of a distance: float32 rounds, and a pair compared in vain costs nothing
SEED = 1


def near_pairs(
    vectors: Sequence[NDArray[Any]], max_cosine: float, *, exact: int, cluster: int
) -> Iterator[tuple[int, int]]:
    """Every pair (i, j), i < j, whose cosine is above `max_cosine`.

    Up to `exact` vectors are all compared; more are put into clusters of about `cluster`.
    """
    if not len(vectors):
        return iter(())
    matrix = np.stack(vectors, dtype=np.float32, casting="same_kind")
    if len(matrix) <= exact:
        return exact_pairs(matrix, max_cosine)
    return clustered_pairs(matrix, max_cosine, math.ceil(len(matrix) / cluster))


def exact_pairs(matrix: Vectors, max_cosine: float) -> Iterator[tuple[int, int]]:
    """All with all, in blocks."""
    rows = np.arange(len(matrix))
    for top in range(0, len(matrix), BLOCK_ROWS):
        yield from _between(matrix, rows[top : top + BLOCK_ROWS], rows[top:], max_cosine)


def clustered_pairs(matrix: Vectors, max_cosine: float, clusters: int) -> Iterator[tuple[int, int]]:
    """Each cluster with itself and its guests."""
    centres = _centres(matrix, clusters)
    own, guests = _members(matrix, centres, reach=math.sqrt(2 - 2 * max_cosine) / 2)
    seen: set[tuple[int, int]] = set()  # a pair near a plane is met from both sides
    for index in range(clusters):
        members = np.flatnonzero(own == index)
        for pair in _between(matrix, members, np.concatenate([members, guests[index]]), max_cosine):
            if own[pair[0]] == own[pair[1]]:
                yield pair
            elif pair not in seen:
                seen.add(pair)
                yield pair


def _between(matrix: Vectors, rows: Indices, others: Indices, max_cosine: float) -> Iterator[tuple[int, int]]:
    """Near pairs of `rows` and `others`, compared in blocks; rows that are in both are paired once."""
    for top in range(0, len(rows), BLOCK_ROWS):
        for left in range(0, len(others), BLOCK_ROWS):
            ours, theirs = rows[top : top + BLOCK_ROWS], others[left : left + BLOCK_ROWS]
            both = np.isin(theirs, rows, assume_unique=True)
            cosines = matrix[ours] @ matrix[theirs].T
            for i, j in np.argwhere(cosines > max_cosine):
                first, second = int(ours[i]), int(theirs[j])
                if first < second or (first > second and not both[j]):
                    yield min(first, second), max(first, second)


def _centres(matrix: Vectors, clusters: int) -> Vectors:
    from sklearn.cluster import MiniBatchKMeans

    count = min(len(matrix), SAMPLE * clusters)
    sample = np.random.default_rng(SEED).choice(len(matrix), count, replace=False)
    fitted = MiniBatchKMeans(clusters, random_state=SEED, n_init=1, batch_size=4096).fit(matrix[sample])
    centres: Vectors = fitted.cluster_centers_.astype(np.float32)
    return centres


def _members(matrix: Vectors, centres: Vectors, reach: float) -> tuple[Indices, list[Indices]]:
    """The nearest centre of each vector, and per centre the vectors of others that come within `reach` of it."""
    own = np.empty(len(matrix), dtype=np.int64)
    guests: list[list[Any]] = [[] for _ in centres]
    lengths = (centres**2).sum(axis=1)
    apart = np.sqrt(np.maximum(lengths[:, None] + lengths - 2 * centres @ centres.T, 0))
    for top in range(0, len(matrix), BLOCK_ROWS):
        block = matrix[top : top + BLOCK_ROWS]
        squares = lengths - 2 * block @ centres.T  # squared distances, less the same for all centres
        nearest = squares.argmin(axis=1)
        own[top : top + BLOCK_ROWS] = nearest
        beyond = squares - squares[np.arange(len(block)), nearest][:, None]
        close = beyond <= 2 * apart[nearest] * (reach + SLACK)  # distance to the plane between two centres
        close[np.arange(len(block)), nearest] = False
        for row, centre in np.argwhere(close):
            guests[centre].append(top + row)
    return own, [np.array(each, dtype=np.int64) for each in guests]
