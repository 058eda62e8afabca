"""Captions and sources of the finished set, counted."""

from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from markupsafe import Markup

from components.data.captions import CaptionSource
from components.data.report.data_set import DataSet
from components.data.report.distributions import histogram

SHOWN_SOURCES = 12
SHOWN_CAPTIONS = 8


@dataclass(frozen=True)
class Share:
    """A line of a table: clips cut from it, clips kept, hours kept, and its share of what is kept."""

    name: str
    clips: int
    kept: int
    seconds: float
    share: float


@dataclass(frozen=True)
class CaptionFacts:
    """Of the kept clips. `own`: share with a caption that is not the fallback."""

    origins: list[tuple[str, int]]
    own: float
    distinct: int
    chart: Markup
    words: str
    frequent: list[tuple[str, int]]


def source_shares(data: DataSet) -> list[Share]:
    """Clips by folder of their file, or by file where all lie in one folder; the small ones together."""
    files = data.table["source"].dictionary_encode().combine_chunks()
    names = files.dictionary.to_pylist()
    folders = [PurePosixPath(name).parts[0] if "/" in name else name for name in names]
    return _shares(data, pa.array(folders, pa.string()).take(files.indices))


def licence_shares(data: DataSet) -> list[Share]:
    """Clips by licence."""
    return _shares(data, pc.fill_null(data.table["licence"], "not stated")) if data.has("licence") else []


def _shares(data: DataSet, groups: pa.Array) -> list[Share]:
    table = pa.table(
        {
            "name": groups,
            "kept": pa.array(data.kept.astype(np.int64)),
            "seconds": pa.array(np.where(data.kept, data.seconds, 0.0)),
        }
    )
    counted = table.group_by("name").aggregate([([], "count_all"), ("kept", "sum"), ("seconds", "sum")])
    rows = sorted(counted.to_pylist(), key=lambda row: (-row["kept_sum"], row["name"]))
    shown, rest = rows[:SHOWN_SOURCES], rows[SHOWN_SOURCES:]
    if rest:
        sums = {name: sum(row[name] for row in rest) for name in ("count_all", "kept_sum", "seconds_sum")}
        shown.append({"name": f"{len(rest):,} others", **sums})
    whole = max(int(data.kept.sum()), 1)
    return [
        Share(row["name"], row["count_all"], row["kept_sum"], row["seconds_sum"], row["kept_sum"] / whole)
        for row in shown
    ]


def caption_facts(data: DataSet) -> CaptionFacts | None:
    """None before the caption stage, and for an empty set."""
    kept = data.kept
    if not data.has("caption") or not kept.any():
        return None
    table = data.table.select(["caption", "caption_source"]).filter(pa.array(kept))
    captions = pc.fill_null(table["caption"], "")
    words = pc.count_substring_regex(captions, r"\S+").to_numpy(zero_copy_only=False).astype(np.float64)
    origins = sorted(
        ((row["values"], row["counts"]) for row in pc.value_counts(table["caption_source"]).to_pylist()),
        key=lambda each: -each[1],
    )
    fallback = dict(origins).get(CaptionSource.FALLBACK.value, 0)
    counts = sorted(
        ((row["values"], row["counts"]) for row in pc.value_counts(captions).to_pylist()),
        key=lambda each: (-each[1], each[0]),
    )
    low, middle, high = np.quantile(words, (0.05, 0.5, 0.95))
    return CaptionFacts(
        origins=[(str(name), count) for name, count in origins],
        own=1 - fallback / len(words),
        distinct=len(counts),
        chart=histogram(words, np.ones(len(words), np.bool_), [], label="Words per caption"),
        words=f"5 % {low:.0f}, median {middle:.0f}, 95 % {high:.0f}",
        frequent=[(text, count) for text, count in counts[:SHOWN_CAPTIONS] if count > 1],
    )
