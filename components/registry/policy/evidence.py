"""Is there enough to decide on? What is missing fails closed; too few, or measured in two ways, decides nothing."""

from collections.abc import Iterable
from dataclasses import dataclass

from components.evaluation.record import Metric
from components.registry.config import GateConfig
from components.registry.policy.contestant import Contestant
from components.registry.policy.floors import needed_metrics, not_applicable
from components.registry.policy.statistics import Array
from components.registry.policy.verdict import Finding, Status

KIND = "evidence"
SAMPLER = "sampler"
VBENCH = "vbench_"  # names of VBench's dimensions and of its Total


def asked_of(candidate: Contestant, metrics: Iterable[str]) -> list[str]:
    """The metrics, without those that no prompt asks for."""
    return sorted({metric for metric in metrics if not not_applicable(candidate, metric)})


def compared_metrics(candidate: Contestant, policy: GateConfig) -> list[str]:
    """The primary metric and the guards, without those that no prompt asks for."""
    return sorted({policy.primary, *asked_of(candidate, policy.margins)})


def needed_for_floors(candidate: Contestant, policy: GateConfig) -> list[str]:
    """What the floors in force look at, without those that no prompt asks for."""
    return asked_of(candidate, needed_metrics(policy.floors))


def unusable(candidate: Contestant, names: Iterable[str]) -> Iterable[Finding]:
    """A number that is not there cannot speak for the candidate."""
    for name in sorted(set(names)):
        metric = candidate.usable(name)
        if metric is None:
            found = candidate.record.metrics.get(name)
            said = "missing" if found is None else "not a number"
            where = "`reelforge vbench status`" if name.startswith(VBENCH) else "the log of `evaluate`"
            reason = f"{name} of the candidate is {said}; see {where} for what it lacked, and evaluate again"
            yield Finding(name, KIND, Status.FAILED, reason)
        elif metric.distance and (lack := candidate.lacks(metric.distance)):
            yield Finding(name, KIND, Status.FAILED, f"the candidate's evaluation {lack}; evaluate it again")


def too_few(
    candidate: Contestant, floors: Iterable[str], compared: Iterable[str], policy: GateConfig
) -> Iterable[Finding]:
    """Fewer samples than the policy asks for, of a mean, or than a distance's features need.

    And what can be compared with no number of them: one that is neither a mean over items nor a distance.
    """
    samples = candidate.record.samples
    if samples < policy.min_samples:
        reason = f"{samples} samples, {policy.min_samples} are needed: add videos, or raise evaluate.samples"
        yield Finding("samples", KIND, Status.UNDECIDED, reason, float(samples))
    asked = set(compared)
    for name in sorted({*floors, *asked}):
        metric = candidate.usable(name)
        if metric is None:
            continue
        if metric.distance is None:
            yield from _few_items(name, metric, policy, is_compared=name in asked)
        elif name in asked and metric.distance.kind == "frechet" and not candidate.lacks(metric.distance):
            yield from _few_rows(name, candidate.generated(metric.distance), policy)


def _few_items(name: str, metric: Metric, policy: GateConfig, *, is_compared: bool) -> Iterable[Finding]:
    items = min(map(len, metric.parts.values()), default=len(metric.per_item))
    needed = min(policy.min_items, policy.min_samples)
    if not items:
        if is_compared:
            reason = (
                f"{name} is neither a mean over items nor a distance, so two models cannot be compared by it: take"
                " another for gate.primary, or leave it out of the margins"
            )
            yield Finding(name, KIND, Status.UNDECIDED, reason, metric.value)
    elif items < needed:
        reason = (
            f"{name} has {items} items, {needed} are needed: evaluate more clips that ask for it, or take it out of the"
            " gate's floors and margins"
        )
        yield Finding(name, KIND, Status.UNDECIDED, reason, metric.value)


def _few_rows(name: str, features: Array, policy: GateConfig) -> Iterable[Finding]:
    rows, width = features.shape
    needed = policy.min_samples_per_feature * width
    if rows < needed:
        reason = (
            f"{name} has {rows} samples of {width} features; its covariance needs"
            f" {policy.min_samples_per_feature:g} per feature, {needed:g}: raise evaluate.samples"
        )
        yield Finding(name, KIND, Status.UNDECIDED, reason, float(rows))


@dataclass(frozen=True)
class Rival:
    """Whom a candidate is compared with: in words, and what to do where its evaluation does not serve."""

    words: str
    way_out: str


CHAMPION = Rival("the champion", "evaluate the champion again")
FROZEN = Rival(
    "the frozen baseline", "freeze a champion's evaluation of today with `reelforge registry freeze`"
)


def incomparable(
    candidate: Contestant,
    other: Contestant,
    names: Iterable[str],
    *,
    rival: Rival = CHAMPION,
    primary: str = "",
) -> Iterable[Finding]:
    """What keeps the two from being compared, with the way out."""
    if candidate.model_sha256 == other.model_sha256:
        yield Finding("model", KIND, Status.UNDECIDED, f"the candidate is {rival.words} itself")
        return
    wanted = sorted(set(names))
    apart = [name for name in wanted if _sampled_apart(name, candidate, other)]
    for name in wanted:
        if name in apart:
            continue
        if reason := _obstacle(name, candidate, other, rival, is_primary=name == primary):
            yield Finding(name, KIND, Status.UNDECIDED, reason)
    if apart:
        yield Finding(SAMPLER, KIND, Status.UNDECIDED, _who_decides(apart, candidate, other, rival))


def _sampled_apart(name: str, candidate: Contestant, other: Contestant) -> bool:
    """True where the two were asked for the same, and only their own samplers make it two measurements.

    As of two systems: evaluating again would change nothing.
    """
    metric, theirs = candidate.metric(name), other.usable(name)
    if theirs is None or metric.identity == theirs.identity:
        return False
    return candidate.record.asked == other.record.asked and candidate.record.sampling != other.record.sampling


def _who_decides(names: list[str], candidate: Contestant, other: Contestant, rival: Rival) -> str:
    return (
        f"the candidate and {rival.words} make videos in two ways (`{candidate.record.sampling}` and"
        f" `{other.record.sampling}`), so these are not compared: {', '.join(names)}; a person decides:"
        " look at both, then `reelforge promote --override`"
    )


def _obstacle(
    name: str, candidate: Contestant, against: Contestant, rival: Rival, *, is_primary: bool
) -> str:
    mine, other = candidate.metric(name), against.usable(name)
    if other is None:
        return f"{rival.words}'s evaluation has no usable {name}; {rival.way_out}"
    if mine.identity != other.identity:
        if own_measure(name, candidate, against) and not is_primary:
            return ""
        return (
            f"{name} is `{mine.identity}` for the candidate and `{other.identity}` for {rival.words}: two different"
            f" measurements; {rival.way_out} under the present protocol"
        )
    if mine.distance:
        if lack := against.lacks(mine.distance):
            return f"{rival.words}'s evaluation {lack}; {rival.way_out}"
        shapes = [side.generated(mine.distance).shape for side in (candidate, against)]
        return "" if shapes[0] == shapes[1] else f"features of {shapes[0]} and {shapes[1]} cannot be paired"
    if {name: set(part) for name, part in mine.parts.items()} != {n: set(p) for n, p in other.parts.items()}:
        return f"{name}: candidate and {rival.words} were not scored on the same prompts of every dimension"
    if set(mine.per_item) != set(other.per_item):
        return f"{name}: candidate and {rival.words} were not scored on the same prompts or clips"
    return ""


def own_measure(name: str, candidate: Contestant, other: Contestant) -> bool:
    """True for a metric that is measured on a part of the models themselves, and theirs differ, under one protocol.

    As the validation loss on latents of the autoencoder: evaluating again would not make the two comparable, so such a
    guard has nothing to say.
    """
    differ = candidate.metric(name).is_of_other_parts(other.metric(name))
    return differ and candidate.record.protocol == other.record.protocol
