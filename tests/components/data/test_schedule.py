from collections import Counter

import numpy as np
import pytest

from components.data.schedule import Schedule, Stream

POLICIES = ("repeat", "merge")


def stream(name, count, batch, *, kept=None, above=None, prefix="s"):
    return Stream(name, tuple(f"{prefix}{i}" for i in range(count)), kept or count, batch, above)


def schedule(policy, seed=3):
    streams = [stream("a", 20, 4), stream("b", 7, 3), stream("c", 3, 8), stream("d", 10, 2, kept=4)]
    return Schedule(streams, seed=seed, small_bucket=policy)


@pytest.mark.parametrize("policy", POLICIES)
def test_a_batch_depends_on_its_position_alone(policy):
    straight = schedule(policy)
    forward = [straight.at(position) for position in range(60)]
    for position in reversed(range(60)):
        index, samples = schedule(policy).at(position)
        assert index == forward[position][0]
        assert samples.tolist() == forward[position][1].tolist()


@pytest.mark.parametrize("policy", POLICIES)
def test_every_batch_is_full_and_of_one_bucket(policy):
    made = schedule(policy)
    for position in range(60):
        index, samples = made.at(position)
        assert len(samples) == made.streams[index].batch


@pytest.mark.parametrize("policy", POLICIES)
def test_positions_walk_through_the_epochs_without_gap_or_overlap(policy):
    made = schedule(policy)
    epochs = [made.epoch_of(position) for position in range(100)]
    assert epochs == sorted(epochs)
    counts = Counter(epochs)
    for epoch in range(epochs[-1]):
        assert counts[epoch] == made.batches_before(epoch + 1) - made.batches_before(epoch)


def test_an_epoch_holds_no_sample_twice_while_the_bucket_fills_a_batch():
    made = Schedule([stream("a", 22, 4)], seed=0, small_bucket="repeat")
    seen = np.concatenate([made.at(position)[1] for position in range(5)])
    assert len(set(seen)) == 20


def test_merging_gives_every_sample_exactly_once_an_epoch():
    made = Schedule([stream("a", 5, 4)], seed=0, small_bucket="merge")
    samples = np.concatenate([made.at(position)[1] for position in range(5)])  # 20 = 4 epochs of 5
    assert Counter(samples.tolist()) == dict.fromkeys(range(5), 4)


def test_a_bucket_below_one_batch_is_repeated_to_fill_it():
    made = Schedule([stream("a", 3, 8)], seed=0, small_bucket="repeat")
    _, samples = made.at(0)
    assert sorted(Counter(samples.tolist()).values()) == [2, 3, 3]


def test_a_keep_share_takes_other_samples_in_each_epoch():
    made = Schedule([stream("a", 40, 4, kept=8)], seed=0, small_bucket="refuse")
    epochs = [np.concatenate([made.at(2 * epoch + k)[1] for k in range(2)]) for epoch in range(8)]
    assert all(len(set(epoch)) == 8 for epoch in epochs)
    assert len(set(np.concatenate(epochs))) > 25


def test_a_sample_taken_at_a_large_resolution_is_not_taken_at_a_smaller_one_in_that_epoch():
    streams = [stream("large", 10, 2, kept=4), stream("small", 16, 2, kept=12, above=0)]
    made = Schedule(streams, seed=1, small_bucket="repeat")
    for epoch in range(5):
        taken = {0: set(), 1: set()}
        for position in range(made.batches_before(epoch), made.batches_before(epoch + 1)):
            index, samples = made.at(position)
            taken[index].update(streams[index].samples[i] for i in samples)
        assert not taken[0] & taken[1]
        assert len(taken[0]) == 4
        assert len(taken[1]) == 12


def test_another_seed_is_another_order():
    one, other = (np.concatenate([schedule("repeat", seed).at(k)[1] for k in range(6)]) for seed in (1, 2))
    assert one.tolist() != other.tolist()
