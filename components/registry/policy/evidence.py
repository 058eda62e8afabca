"""Is there enough to decide on? What is missing fails closed; too few, or measured in two ways, decides nothing."""

from collections.abc import Iterable

from components.registry.config import GateConfig
from components.registry.policy.contestant import Contestant
from components.registry.policy.floors import needed_metrics, not_applicable
from components.registry.policy.verdict import Finding, Status

KIND = "evidence"
SAMPLER = "sampler"
VBENCH = "vbench_"  # names of VBench's dimensions and of its Total


def compared_metrics(candidate: Contestant, policy: GateConfig) -> list[str]:
    """The primary metric and the guards, without those that no prompt asks for."""
    guards = {metric for metric in policy.margins if not not_applicable(candidate, metric)}
    return sorted({policy.primary, *guards})


def unusable(candidate: Contestant, policy: GateConfig, *, compared: bool) -> Iterable[Finding]:
    """A number that is not there cannot speak for the candidate."""
    floors = {name for name in needed_metrics(policy.floors) if not not_applicable(candidate, name)}
    needed = {*floors, *(compared_metrics(candidate, policy) if compared else ())}
    for name in sorted(needed):
        metric = candidate.usable(name)
        if metric is None:
            found = candidate.record.metrics.get(name)
            said = "missing" if found is None else "not a number"
            where = "`reelforge vbench status`" if name.startswith(VBENCH) else "the log of `evaluate`"
            reason = f"{name} of the candidate is {said}; see {where} for what it lacked, and evaluate again"
            yield Finding(name, KIND, Status.FAILED, reason)
        elif metric.distance and (lack := candidate.lacks(metric.distance)):
            yield Finding(name, KIND, Status.FAILED, f"the candidate's evaluation {lack}; evaluate it again")


def too_few(candidate: Contestant, policy: GateConfig, *, compared: bool) -> Iterable[Finding]:
    """Fewer samples than the policy asks for, or than the width of a Frechet distance's features needs."""
    samples = candidate.record.samples
    if samples < policy.min_samples:
        reason = f"{samples} samples, {policy.min_samples} are needed: add videos, or raise evaluate.samples"
        yield Finding("samples", KIND, Status.UNDECIDED, reason, float(samples))
    for name in compared_metrics(candidate, policy) if compared else ():
        metric = candidate.usable(name)
        if metric is None or metric.distance is None or metric.distance.kind != "frechet":
            continue
        if candidate.lacks(metric.distance):
            continue
        rows, width = candidate.generated(metric.distance).shape
        needed = policy.min_samples_per_feature * width
        if rows < needed:
            reason = (
                f"{name} has {rows} samples of {width} features; its covariance needs"
                f" {policy.min_samples_per_feature:g} per feature, {needed:g}: raise evaluate.samples"
            )
            yield Finding(name, KIND, Status.UNDECIDED, reason, float(rows))


def incomparable(candidate: Contestant, champion: Contestant, policy: GateConfig) -> Iterable[Finding]:
    """What keeps the two from being compared, with the way out."""
    if candidate.model_sha256 == champion.model_sha256:
        yield Finding("model", KIND, Status.UNDECIDED, "the candidate is the champion itself")
        return
    names = compared_metrics(candidate, policy)
    apart = [name for name in names if _sampled_apart(name, candidate, champion)]
    for name in names:
        if name not in apart and (reason := _obstacle(name, candidate, champion, policy)):
            yield Finding(name, KIND, Status.UNDECIDED, reason)
    if apart:
        yield Finding(SAMPLER, KIND, Status.UNDECIDED, _who_decides(apart, candidate, champion))


def _sampled_apart(name: str, candidate: Contestant, champion: Contestant) -> bool:
    """True where the two were asked for the same, and only their own samplers make it two measurements.

    As of two systems: evaluating the champion again would change nothing.
    """
    mine, other = candidate.record, champion.record
    metric, theirs = candidate.metric(name), champion.usable(name)
    if theirs is None or metric.identity == theirs.identity:
        return False
    return mine.asked == other.asked and mine.sampling != other.sampling


def _who_decides(names: list[str], candidate: Contestant, champion: Contestant) -> str:
    return (
        f"candidate and champion make videos in two ways (`{candidate.record.sampling}` and"
        f" `{champion.record.sampling}`), so these are not compared: {', '.join(names)}; a person decides:"
        " look at both, then `reelforge promote --override`"
    )


def _obstacle(name: str, candidate: Contestant, champion: Contestant, policy: GateConfig) -> str:
    mine, other = candidate.metric(name), champion.usable(name)
    if other is None:
        return f"the champion's evaluation has no usable {name}; evaluate the champion again"
    if mine.identity != other.identity:
        if own_measure(name, candidate, champion, policy):
            return ""
        return (
            f"{name} is `{mine.identity}` for the candidate and `{other.identity}` for the champion: two different"
            " measurements; evaluate the champion again under the present protocol"
        )
    if mine.distance:
        if lack := champion.lacks(mine.distance):
            return f"the champion's evaluation {lack}; evaluate the champion again"
        shapes = [side.generated(mine.distance).shape for side in (candidate, champion)]
        return "" if shapes[0] == shapes[1] else f"features of {shapes[0]} and {shapes[1]} cannot be paired"
    if {name: set(part) for name, part in mine.parts.items()} != {n: set(p) for n, p in other.parts.items()}:
        return f"{name}: candidate and champion were not scored on the same prompts of every dimension"
    if set(mine.per_item) != set(other.per_item):
        return f"{name}: candidate and champion were not scored on the same prompts or clips"
    return ""


def own_measure(name: str, candidate: Contestant, champion: Contestant, policy: GateConfig) -> bool:
    """True for a guard that differs in identity although the protocols are equal.

    Then it is measured on a part of the models themselves: the validation loss on latents of the autoencoder.
    Evaluating again would not make the two comparable, so such a guard has nothing to say.
    """
    return candidate.record.protocol == champion.record.protocol and name != policy.primary
