"""Absolute limits: what no model may fall below, whoever the champion is; so a chain of small losses has an end."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from components.registry.config import FloorsConfig
from components.registry.policy.contestant import Contestant
from components.registry.policy.verdict import Finding, Status

UNTRAINED = "toy_fvd_untrained"  # toy_fvd of the same model with random weights, under the same protocol
KIND = "floor"


@dataclass(frozen=True)
class Floor:
    """A limit of `FloorsConfig`: its metric, and what turns the parameter into a limit in that metric's unit."""

    name: str
    metric: str
    is_upper: bool
    scale: Callable[[Contestant], float | None]  # limit = parameter x scale; None: the floor does not apply
    also_needs: tuple[str, ...] = ()


def _one(_contestant: Contestant) -> float:
    return 1.0


def _untrained(contestant: Contestant) -> float:
    return contestant.value(UNTRAINED)


def _chance(metric: str) -> Callable[[Contestant], float | None]:
    """Guessing's score; None where no prompt names the attribute, so there is nothing to get right."""

    def read(contestant: Contestant) -> float | None:
        found = contestant.record.metrics.get(metric)
        return found.chance if found else None

    return read


FLOORS = (
    Floor("max_toy_fvd_share_of_untrained", "toy_fvd", True, _untrained, (UNTRAINED,)),
    Floor("min_colour_accuracy", "colour_accuracy", False, _chance("colour_accuracy")),
    Floor("min_motion_accuracy", "motion_accuracy", False, _chance("motion_accuracy")),
    Floor("min_motion_energy", "motion_energy", False, _one),
    Floor("min_reconstruction_psnr", "reconstruction_psnr", False, _one),
)


def not_applicable(contestant: Contestant, metric: str) -> bool:
    """True for a metric that is there with no item: none of the prompts asks for what it measures."""
    found = contestant.record.metrics.get(metric)
    return found is not None and found.n == 0


def needed_metrics(config: FloorsConfig) -> set[str]:
    """Metrics that the floors in force look at."""
    active = [floor for floor in FLOORS if getattr(config, floor.name) is not None]
    return {metric for floor in active for metric in (floor.metric, *floor.also_needs)}


def floor_findings(candidate: Contestant, config: FloorsConfig) -> Iterable[Finding]:
    """One finding per floor in force. The metrics must have been found usable."""
    for floor in FLOORS:
        parameter = getattr(config, floor.name)
        if parameter is None or not_applicable(candidate, floor.metric):
            continue
        scale = floor.scale(candidate)
        value = candidate.value(floor.metric)
        if scale is None:
            reason = f"{floor.metric} has no level of chance to be measured against"
            yield Finding(floor.metric, KIND, Status.FAILED, reason, value)
            continue
        limit = parameter * scale
        kept = value <= limit if floor.is_upper else value >= limit
        words = "at most" if floor.is_upper else "at least"
        reason = f"{floor.metric} is {value:.4g}, {words} {limit:.4g} is asked ({floor.name} {parameter:g})"
        status = Status.PASSED if kept else Status.FAILED
        yield Finding(floor.metric, KIND, status, reason, value, limit=limit)
