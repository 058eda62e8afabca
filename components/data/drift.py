"""How far a data set has moved from the version before it.

A version leaves a summary: for every column of numbers its deciles and the share of clips between each two, for
every column of names the shares of the names. The next version is counted into the same parts, and the population
stability index sums what has moved: sum over parts of (now - before) * ln(now / before). The convention of those
who use it is that below 0.1 little has changed and from 0.25 on much has.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from components.artifacts import read_json
from components.errors import ContractError

if TYPE_CHECKING:
    import pandas as pd

SUMMARY = "summary.json"
NUMBERS = (
    "seconds",
    "fps",
    "height",
    "width",
    "caption_words",
    "motion",
    "sharpness",
    "text_share",
    "brightness",
)
NAMES = ("split", "caption_source")
DECILES = np.linspace(0, 1, 11)
LEAST_SHARE = 1e-4  # stands for an empty part, whose logarithm would be infinite
MISSING = "missing"
DIGITS = 7  # of a float32
Summary = dict[str, Any]


def summarise(frame: "pd.DataFrame", version: str) -> Summary:
    """What the next version will be compared with; plain JSON."""
    numbers = {name: _number_summary(_values(frame, name)) for name in NUMBERS}
    names = {name: _shares(frame[name]) for name in NAMES}
    return {"version": version, "clips": len(frame), "numbers": numbers, "names": names}


def read_previous(folder: Path) -> Summary | None:
    """The summary in the folder; None where no version has been accepted yet. Raises `ContractError`."""
    path = folder / SUMMARY
    if not path.is_file():
        raise ContractError(
            f"{path} is missing (validation.previous): `git checkout {folder.name}` brings it back, and"
            " `reelforge data accept` makes the present version the one to compare with"
        )
    summary: Summary = read_json(path)
    return summary if summary.get("version") else None


def drift(previous: Summary, frame: "pd.DataFrame") -> dict[str, float]:
    """Population stability index of every column that both versions have, largest first."""
    found = {}
    for name, before in previous["numbers"].items():
        if name in frame and before["edges"]:
            found[name] = stability(before["shares"], _parts(_values(frame, name), before["edges"]))
    for name, before in previous["names"].items():
        if name in frame:
            found[name] = stability(before, _shares(frame[name]))
    return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))


def stability(before: Mapping[str, float], now: Mapping[str, float]) -> float:
    """The population stability index of two sets of shares."""
    index = 0.0
    for part in sorted(before.keys() | now.keys()):
        old, new = (max(shares.get(part, 0.0), LEAST_SHARE) for shares in (before, now))
        index += (new - old) * math.log(new / old)
    return float(f"{index:.{DIGITS}g}")


def _values(frame: "pd.DataFrame", name: str) -> NDArray[np.float64]:
    values: NDArray[np.float64] = frame[name].to_numpy(dtype=np.float64, na_value=np.nan)
    return values


def _number_summary(values: NDArray[np.float64]) -> Summary:
    """Distinct deciles, and the share of the clips in each part; a column of one value has one edge."""
    known = values[~np.isnan(values)]
    if not known.size:
        return {"edges": [], "shares": {}}
    edges = [float(f"{edge:.{DIGITS}g}") for edge in np.unique(np.quantile(known, DECILES))]
    return {"edges": edges, "shares": _parts(values, edges)}


def _parts(values: NDArray[np.float64], edges: Sequence[float]) -> dict[str, float]:
    """Share of the values below the first edge, at it, up to each other edge, above the last, and missing.

    A value within rounding of an edge counts as equal to it.
    """
    known = values[~np.isnan(values)]
    limits = np.asarray(edges)
    slack = np.abs(limits) * 10.0 ** (1 - DIGITS)
    limits = np.concatenate([[np.nextafter(limits[0] - slack[0], -np.inf)], limits + slack])
    counts = np.bincount(np.searchsorted(limits, known, side="left"))
    parts = {f"{index:02}": float(count) for index, count in enumerate(counts) if count}
    if len(known) < len(values):
        parts[MISSING] = float(len(values) - len(known))
    return {name: float(f"{count / len(values):.{DIGITS}g}") for name, count in parts.items()}


def _shares(names: "pd.Series[Any]") -> dict[str, float]:
    counts = names.value_counts(dropna=False)
    return {
        str(value): float(f"{count / len(names):.{DIGITS}g}")
        for value, count in zip(counts.index, counts.to_numpy(), strict=True)
        if count
    }
