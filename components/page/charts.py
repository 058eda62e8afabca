"""Small line charts as inline SVG: no library in the page, colours from its style sheet, sharp at any size."""

import math
from collections.abc import Callable, Sequence

from markupsafe import Markup

WIDTH, HEIGHT = 280, 132  # units of the drawing; the page scales it
LEFT, RIGHT, TOP, BOTTOM = 46, 8, 8, 20
POINTS = 240  # more cannot be told apart at this size
LOG_RATIO = 12.0  # a range wider than this is drawn on a logarithmic axis
Point = tuple[float, float]


def line_chart(points: Sequence[Point], *, label: str, beside: Sequence[Point] = ()) -> Markup:
    """A line over steps with three ticks; `label` is what a screen reader says. Needs one point or more.

    `beside` is a second series on the same axes, with a mark at each of its points.
    """
    shown = thin(points, POINTS)
    second = thin(beside, POINTS)
    values = [y for _, y in (*shown, *second)]
    logarithmic = min(values) > 0 and max(values) / min(values) > LOG_RATIO
    low, high = padded(values, logarithmic=logarithmic)
    first = min(x for x, _ in (*shown, *second))
    last = max(first + 1, *(x for x, _ in (*shown, *second)))

    def across(x: float) -> float:
        return LEFT + (x - first) / (last - first) * (WIDTH - LEFT - RIGHT)

    def down(y: float) -> float:
        at = math.log10(y) if logarithmic else y
        return TOP + (high - at) / (high - low) * (HEIGHT - TOP - BOTTOM)

    parts = [_tick(value, down) for value in round_values(low, high, logarithmic=logarithmic)]
    for style, series, marks in (("line", shown, shown[-1:]), ("line second", second, second)):
        if not series:
            continue
        path = " ".join(f"{across(x):.1f},{down(y):.1f}" for x, y in series)
        parts.append(f'<polyline class="{style}" points="{path}"/>')
        dot = "end second" if style.endswith("second") else "end"
        parts += [
            f'<circle class="{dot}" cx="{across(x):.1f}" cy="{down(y):.1f}" r="2.4"/>' for x, y in marks
        ]
    parts.append(f'<text class="axis" x="{LEFT}" y="{HEIGHT - 4}">{first:,.0f}</text>')
    ending = f"{last:,.0f} steps{', log scale' if logarithmic else ''}"
    parts.append(f'<text class="axis end" x="{WIDTH - RIGHT}" y="{HEIGHT - 4}">{ending}</text>')
    svg = f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{{}}">'
    return Markup(svg).format(label) + Markup("".join(parts) + "</svg>")


def _tick(value: float, down: Callable[[float], float]) -> str:
    y = down(value)
    grid = f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
    return f'{grid}<text class="axis end" x="{LEFT - 6}" y="{y + 3:.1f}">{short(value)}</text>'


def thin(points: Sequence[Point], most: int) -> list[Point]:
    """At most `most` points, each the mean of its neighbours."""
    if len(points) <= most:
        return list(points)
    thinned = []
    for index in range(most):
        part = points[index * len(points) // most : (index + 1) * len(points) // most]
        thinned.append((part[-1][0], math.fsum(y for _, y in part) / len(part)))
    return thinned


def padded(values: Sequence[float], *, logarithmic: bool) -> tuple[float, float]:
    """The range of an axis, with room so that a flat line is drawn in the middle."""
    levels = [math.log10(value) for value in values] if logarithmic else values
    low, high = min(levels), max(levels)
    room = (high - low) * 0.06 or abs(high) * 0.1 or 1.0
    return low - room, high + room


def round_values(low: float, high: float, *, logarithmic: bool) -> list[float]:
    """Two to five round values in the range, which is one of exponents where `logarithmic`."""
    if logarithmic:
        powers = range(math.floor(low) - 1, math.ceil(high) + 1)
        for factors in ((1,), (1, 3), (1, 2, 5)):
            values = [factor * 10.0**power for power in powers for factor in factors]
            inside = [value for value in values if low <= math.log10(value) <= high]
            if len(inside) >= 2:
                return inside[:: math.ceil(len(inside) / 5)]
    size = 10.0 ** math.floor(math.log10(high - low))
    step = next(size * part for part in (0.2, 0.5, 1.0, 2.0, 5.0) if (high - low) / (size * part) <= 4)
    return [index * step for index in range(math.ceil(low / step), math.floor(high / step) + 1)]


def short(value: float) -> str:
    """A number in two digits, or its whole part."""
    if value == 0:
        return "0"
    if abs(value) < 1e-4:
        return f"{value:.0e}"
    digits = max(0, 1 - math.floor(math.log10(abs(value))))
    return f"{value:,.{digits}f}"
