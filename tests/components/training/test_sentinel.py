"""Spikes are found at once in every kind of batch, and honest steps pass: in the demo's own series and made ones."""

import csv
import math
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from components.training.config import SentinelConfig
from components.training.sentinel import Batch, Detour, Measured, Sentinel, Series, samples_to_blame

# every step of these stages on the workspace of `reelforge demo`: kind of batch, loss, gradient norm
RECORDED = Path(__file__).with_name("demo_steps.csv")
STAGES = ("adapt@masks", "train@stage1", "train@stage2", "train@stage3", "autoencoder@stage3")
# a spike of the recorded run: all 32 pictures of a batch have 3 to 5 times their usual loss, and the gradient is 11
# times as long. The same pictures have their usual loss in stage 3, and the stage run once more has no such step
SPIKES = {"train@stage2": [531]}
NAN = float("nan")
STEPS = 100_000


@cache
def recorded(stage: str) -> tuple[Measured, ...]:
    with RECORDED.open() as stream:
        rows = [row for row in csv.DictReader(stream) if row["stage"] == stage]
    return tuple(one(float(row["loss"]), float(row["norm"]), row["kind"]) for row in rows)


def one(loss: float, norm: float = 1.0, kind: str = "a") -> Measured:
    """A step of one batch."""
    return Measured([Batch(loss, kind)], norm)


def times(step: Measured, factor: float) -> Measured:
    """The step with its loss and, as that is what a loss does to it, its gradient multiplied."""
    return Measured([Batch(batch.loss * factor, batch.kind) for batch in step.batches], step.norm * factor)


def refused(steps: Iterable[Measured], config: SentinelConfig | None = None) -> list[int]:
    """Steps that do not pass, by number; like a run, the sentinel grows lenient to what it refuses again and again."""
    sentinel, found, by_series = Sentinel(config or SentinelConfig()), [], []
    for number, step in enumerate(steps):
        lenience = Counter(series for at, series in by_series[-20:] if 6 <= number - at < 1000)
        finding = sentinel.judge(step, lenience)
        if finding is None:
            sentinel.accept(step)
        else:
            found.append(number)
            by_series.append((number, finding.series))
    return found


def each_kind(steps: Iterable[Measured], after: int) -> Iterator[tuple[Sentinel, Measured]]:
    """Every honest step with the sentinel before it, once `after` steps of its kind have passed."""
    sentinel, seen = Sentinel(SentinelConfig()), Counter()
    for step in steps:
        kind = step.batches[0].kind
        if seen[kind] >= after:
            yield sentinel, step
        seen[kind] += 1
        sentinel.accept(step)


@pytest.mark.parametrize("stage", STAGES)
def test_no_honest_step_of_the_demo_is_refused_and_a_real_spike_is(stage):
    assert len(recorded(stage)) >= 200
    assert refused(recorded(stage)) == SPIKES.get(stage, [])


def test_the_stages_that_follow_each_other_are_judged_by_themselves_or_as_one():
    joined = [step for stage in STAGES[:4] for step in recorded(stage)]
    assert len({step.batches[0].kind for step in joined}) == 4  # pictures and clips, square and wide
    assert refused(joined) == [200 + 600 + 531]


@pytest.mark.parametrize("stage", STAGES)
def test_a_loss_that_is_not_finite_or_ten_times_the_usual_is_found_in_every_kind(stage):
    found = Counter()
    for sentinel, step in each_kind(recorded(stage), after=24):
        usual = sentinel.series[f"loss of {step.batches[0].kind}"].usual
        assert sentinel.judge(times(step, 10 * usual / step.loss)) is not None
        assert sentinel.judge(times(step, NAN)) is not None
        assert sentinel.judge(Measured(step.batches, math.inf)) is not None
        found[step.batches[0].kind] += 1
    assert found


def test_three_times_the_usual_loss_is_found_nearly_always():
    found: dict[str, list[bool]] = {}
    for stage in STAGES:
        for sentinel, step in each_kind(recorded(stage), after=48):
            kind = step.batches[0].kind
            usual = sentinel.series[f"loss of {kind}"].usual
            spiking = sentinel.judge(times(step, 3 * usual / step.loss))
            found.setdefault(kind, []).append(spiking is not None)
    assert all(np.mean(hits) > 0.9 for hits in found.values()), {k: np.mean(v) for k, v in found.items()}


def test_in_a_rare_kind_spikes_are_found_as_soon_as_it_has_shown_its_noise():
    steps = [step for stage in STAGES[1:4] for step in recorded(stage)]
    pictures = [step for step in steps if step.batches[0].kind == "1x32x32"]
    judged = list(each_kind(pictures, after=24))
    assert judged
    for sentinel, step in judged:
        usual = sentinel.series["loss of 1x32x32"].usual
        assert sentinel.judge(times(step, 10 * usual / step.loss)) is not None
        assert sentinel.judge(times(step, NAN)) is not None


def autocorrelated(values: np.ndarray, rho: float = 0.9) -> np.ndarray:
    out = values.copy()
    for index in range(1, len(out)):
        out[index] = rho * out[index - 1] + math.sqrt(1 - rho * rho) * values[index]
    return out


HONEST = {  # losses, gradients, and how many of 1e5 steps may be refused
    "log-normal noise": (
        lambda rng: np.exp(0.7 * rng.normal(size=STEPS)),
        lambda rng: np.abs(rng.standard_t(3, STEPS)) + 1e-3,
        0,
    ),
    "losses of both signs, and gradients that stay high for a while": (
        lambda rng: rng.normal(-1.0, 0.3, STEPS),
        lambda rng: np.exp(0.5 * autocorrelated(rng.normal(size=STEPS))),
        0,
    ),
    "power laws": (lambda rng: 1 + rng.pareto(2, STEPS), lambda rng: 1 + rng.pareto(1, STEPS), 20),
}


@pytest.mark.parametrize("name", HONEST)
def test_honest_noise_is_hardly_ever_refused_however_heavy_its_tail(name):
    losses, gradients, allowed = HONEST[name]
    values = losses(np.random.default_rng(0)).tolist(), gradients(np.random.default_rng(1)).tolist()
    assert len(refused(one(loss, norm) for loss, norm in zip(*values, strict=True))) <= allowed


def test_the_limit_follows_the_tail_of_a_kind():
    rng = np.random.default_rng(2)
    quiet, wild = Series(256), Series(256)
    for number in rng.normal(size=400).tolist():
        quiet.add(math.exp(0.1 * number))
        wild.add(math.exp(0.5 * number))
    assert quiet.is_spike(3.0, 2.5, 0)
    assert not wild.is_spike(3.0, 2.5, 0)
    assert wild.is_spike(100.0, 2.5, 0)


def test_a_kind_is_judged_by_its_own_losses():
    sentinel = Sentinel(SentinelConfig())
    rng = np.random.default_rng(3)
    for _ in range(100):
        for kind, usual in (("pictures", 5.0), ("clips", 0.5)):
            sentinel.accept(one(usual * math.exp(0.1 * rng.normal()), kind=kind))
    assert sentinel.judge(one(5.0, kind="pictures")) is None
    finding = sentinel.judge(one(5.0, kind="clips"))
    assert finding.series == "loss of clips"
    assert finding.usual_loss == pytest.approx(0.5, rel=0.1)
    assert sentinel.judge(one(1e6, kind="new")) is None  # nothing is known of it
    assert sentinel.judge(one(NAN, kind="new")) is not None


def test_a_loss_of_other_terms_is_another_kind():
    sentinel = Sentinel(SentinelConfig())
    for _ in range(100):
        sentinel.accept(Measured([Batch(0.1, "9 frames", "mse")], 1.0))
    assert sentinel.judge(Measured([Batch(50.0, "9 frames", "mse")], 1.0)) is not None
    assert sentinel.judge(Measured([Batch(50.0, "9 frames", "mse generator")], 500.0)) is None


def test_gradients_may_vary_more_than_losses_since_clipping_bounds_them():
    sentinel = Sentinel(SentinelConfig())
    rng = np.random.default_rng(4)
    for _ in range(200):
        sentinel.accept(one(1.0, math.exp(0.1 * rng.normal())))
    assert sentinel.judge(one(1.0, 9.0)) is None
    finding = sentinel.judge(one(1.0, 11.0))
    assert finding.reason.startswith("the gradient")
    assert finding.batches == (0,)


def test_a_rise_on_all_processes_is_seen_before_it_stands_out_on_one():
    rng = np.random.default_rng(5)
    usual = {"tall": 1.0, "wide": 0.2, "still": 3.0}

    def step(factor: float) -> Measured:
        kinds = rng.choice(list(usual), 32)
        return Measured([Batch(factor * usual[k] * math.exp(0.7 * rng.normal()), k) for k in kinds], 1.0)

    sentinel = Sentinel(SentinelConfig(spike=1.8))
    for _ in range(300):
        honest = step(1.0)
        assert sentinel.judge(honest) is None
        sentinel.accept(honest)
    finding = sentinel.judge(step(6.0))
    assert finding.batches == tuple(range(32))
    assert "all losses" in finding.series


def test_honest_losses_that_are_rare_in_their_kind_are_refused_only_at_first():
    rng = np.random.default_rng(6)
    noise, rare = np.exp(0.1 * rng.normal(size=20_000)), rng.random(20_000) < 0.02
    steps = [one(float(value * (4 if high else 1))) for value, high in zip(noise, rare, strict=True)]
    assert sum(rare) > 350
    assert len(refused(steps)) < 0.1 * sum(rare)


def test_no_lenience_lets_the_extreme_pass():
    series = Series(256)
    for value in np.exp(0.1 * np.random.default_rng(7).normal(size=200)).tolist():
        series.add(value)
    assert not series.is_spike(4.0, 2.5, 3)
    assert series.is_spike(40.0, 2.5, 30)


def test_the_state_holds_all_that_judgement_depends_on():
    rng = np.random.default_rng(8)
    steps = [one(float(v), float(n)) for v, n in np.exp(0.4 * rng.normal(size=(600, 2)))]
    straight, resumed = Sentinel(SentinelConfig()), Sentinel(SentinelConfig())
    for number, step in enumerate(steps):
        if number % 97 == 0:
            resumed = Sentinel(SentinelConfig(), resumed.state())
        probe = times(step, 6.0)
        assert straight.judge(probe) == resumed.judge(probe)
        straight.accept(step)
        resumed.accept(step)
    assert straight.state() == resumed.state()


def test_the_batch_that_broke_is_blamed_alone():
    sentinel = Sentinel(SentinelConfig())
    assert sentinel.judge(Measured([Batch(0.1), Batch(NAN), Batch(0.2)], NAN)).batches == (1,)
    assert sentinel.judge(Measured([Batch(0.1)] * 3, math.inf)).batches == (0, 1, 2)
    for value in np.exp(0.1 * np.random.default_rng(9).normal(size=300)).tolist():
        sentinel.accept(Measured([Batch(value)] * 3, 1.0))
    assert sentinel.judge(Measured([Batch(1.0), Batch(1.0), Batch(9.0)], 1.0)).batches == (2,)


def test_samples_that_stand_out_are_named_alone():
    assert samples_to_blame(["a", "b", "c"], [0.1, NAN, 0.2]) == ["b"]
    assert samples_to_blame(["a", "b", "c"], [0.1, 0.2, 90.0]) == ["c"]
    assert samples_to_blame(["b", "a", "b"], [0.1, 0.2, 0.3]) == ["a", "b"]
    assert samples_to_blame(["b", "a"], None) == ["a", "b"]


def test_a_detour_takes_every_set_once_but_those_left_out():
    gone = {0, 3, 4, 9}
    detour = Detour(gone)
    places = [detour.place(step) for step in range(20)]
    assert places == [place for place in range(24) if place not in gone]
    assert [detour.step_at(place) for place in places] == list(range(20))
