"""Near pairs: blocks and clusters find what the whole matrix of cosines has."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.data import near_pairs
from components.data.near_pairs import clustered_pairs, exact_pairs


def unit(vectors):
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def by_definition(matrix, max_cosine):
    cosines = matrix @ matrix.T
    return {
        (i, j) for i in range(len(matrix)) for j in range(i + 1, len(matrix)) if cosines[i, j] > max_cosine
    }


def groups(seed, count=40, members=6, width=24, spread=0.03):
    """Unit vectors around so many directions."""
    generator = np.random.default_rng(seed)
    centres = np.repeat(generator.normal(size=(count, width)), members, axis=0)
    return unit(centres + spread * generator.normal(size=centres.shape))


@settings(max_examples=20)
@given(st.integers(1, 30), st.integers(0, 99))
def test_blocks_find_every_pair_that_the_whole_matrix_has(number, seed):
    matrix = unit(np.random.default_rng(seed).normal(size=(number, 2)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(near_pairs, "BLOCK_ROWS", 7)
        found = list(exact_pairs(matrix, 0.9))
    assert len(found) == len(set(found))
    assert set(found) == by_definition(matrix, 0.9)


@pytest.mark.parametrize("seed", range(3))
def test_clusters_that_separate_give_the_exact_pairs(seed):
    matrix = groups(seed)
    assert set(clustered_pairs(matrix, 0.95, 12)) == set(exact_pairs(matrix, 0.95))
    assert len(set(exact_pairs(matrix, 0.95))) == 40 * 15


@settings(max_examples=15)
@given(
    st.integers(20, 120), st.integers(0, 99), st.sampled_from([2, 3, 8]), st.sampled_from([0.5, 0.9, 0.98])
)
def test_clusters_lose_no_pair_where_nothing_separates_either(number, seed, width, max_cosine):
    matrix = unit(np.random.default_rng(seed).normal(size=(number, width)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(near_pairs, "BLOCK_ROWS", 16)
        found = list(clustered_pairs(matrix, max_cosine, 6))
    assert len(found) == len(set(found))
    assert set(found) == by_definition(matrix, max_cosine)


def test_clusters_spare_most_comparisons(monkeypatch):
    matrix = groups(1, count=400, members=5, width=64)
    compared = []
    between = near_pairs._between

    def counting(vectors, rows, others, max_cosine):
        compared.append(len(rows) * len(others))
        return between(vectors, rows, others, max_cosine)

    monkeypatch.setattr(near_pairs, "_between", counting)
    assert len(set(clustered_pairs(matrix, 0.97, 40))) > 1000
    assert sum(compared) < len(matrix) ** 2 / 4


def test_the_number_of_vectors_decides_and_the_pairs_are_the_same():
    vectors = list(groups(2))
    few = set(near_pairs.near_pairs(vectors, 0.95, exact=1000, cluster=20))
    many = set(near_pairs.near_pairs(vectors, 0.95, exact=10, cluster=20))
    assert few == many
    assert list(near_pairs.near_pairs([], 0.95, exact=10, cluster=20)) == []
