"""How every score is distributed, and where the thresholds cut: small histograms as inline SVG."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from components.data.filter import RULES, SCORES
from components.data.report.data_set import DataSet, Marks
from components.page.charts import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, round_values, short

BINS = 40
SHOWN = (0.005, 0.995)  # quantiles: a few extreme clips would squeeze the rest into one bar
Values = NDArray[np.float64]


@dataclass(frozen=True)
class Threshold:
    """A line in a histogram: clips on its `rejected` side go."""

    name: str
    value: float
    bound: str  # "min" or "max"


@dataclass(frozen=True)
class Distribution:
    """One chart, and the sentence under it."""

    title: str
    chart: Markup
    note: str


def distributions(data: DataSet) -> list[Distribution]:
    """A chart per score that was computed, and one of the lengths."""
    found = [_distribution(data, name, _thresholds(data, name)) for name in SCORES if data.has(name)]
    lengths = histogram(data.seconds, data.kept, [], label="Length of the clips in seconds")
    total = float(data.seconds[data.kept].sum())
    found.append(Distribution("length, s", lengths, f"{total / 3600:.2f} hours are kept"))
    return [each for each in found if each is not None]


def _distribution(data: DataSet, name: str, lines: Sequence[Threshold]) -> Distribution | None:
    values = data.numbers(name)
    known = values[~np.isnan(values)]
    if not known.size:
        return None
    low, middle, high = (short(float(value)) for value in np.quantile(known, (0.05, 0.5, 0.95)))
    drawn = histogram(values, data.kept, lines, label=f"Distribution of {name}, median {middle}")
    return Distribution(name.replace("_", " "), drawn, f"5 % {low}, median {middle}, 95 % {high}")


def _thresholds(data: DataSet, column: str) -> list[Threshold]:
    rules = [rule for rule in RULES if rule.column == column]
    settings = [(rule, getattr(data.params.filter, rule.threshold)) for rule in rules]
    return [Threshold(rule.threshold, value, rule.bound) for rule, value in settings if value is not None]


def histogram(values: Values, kept: Marks, lines: Sequence[Threshold], *, label: str) -> Markup:
    """Bars of all values, the kept ones in the stronger colour, and a line at each threshold."""
    known = ~np.isnan(values)
    low, high = _range(values[known], [line.value for line in lines])
    edges = np.linspace(low, high, BINS + 1)
    inside = np.clip(values, low, high)
    every, _ = np.histogram(inside[known], edges)
    good, _ = np.histogram(inside[known & kept], edges)
    most = max(int(every.max()), 1)

    def across(value: float) -> float:
        return LEFT + (value - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    floor = HEIGHT - BOTTOM
    parts = []
    for style, counts in (("all", every), ("kept", good)):
        for start, end, count in zip(edges[:-1], edges[1:], counts, strict=True):
            if count:
                tall = count / most * (floor - TOP)
                x, wide = across(float(start)), across(float(end)) - across(float(start)) - 0.6
                bar = f'x="{x:.1f}" y="{floor - tall:.1f}" width="{wide:.1f}" height="{tall:.1f}"'
                parts.append(f'<rect class="{style}" {bar}/>')
    parts.extend(_ticks(low, high, most, across, floor))
    for line in lines:
        x = across(min(max(line.value, low), high))
        parts.append(f'<line class="threshold" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP - 6}" y2="{floor}"/>')
    svg = f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{{}}">'
    return Markup(svg).format(label) + Markup("".join(parts) + "</svg>")


def _range(known: Values, thresholds: Sequence[float]) -> tuple[float, float]:
    """What the chart spans: nearly all values, and the thresholds near them."""
    if not known.size:
        return 0.0, 1.0
    low, high = (float(value) for value in np.quantile(known, SHOWN))
    room = high - low
    near = [value for value in thresholds if low - room <= value <= high + room]
    low, high = min([low, *near]), max([high, *near])
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _ticks(low: float, high: float, most: int, across: Callable[[float], float], floor: int) -> list[str]:
    values = [value for value in round_values(low, high, logarithmic=False) if low <= value <= high]
    ticks = [
        f'<text class="axis middle" x="{across(value):.1f}" y="{HEIGHT - 6}">{short(value)}</text>'
        for value in values
    ]
    base = f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{floor}" y2="{floor}"/>'
    return [base, *ticks, f'<text class="axis end" x="{LEFT - 6}" y="{TOP + 3}">{most:,}</text>']
