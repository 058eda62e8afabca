"""What every reason costs: the clips that carry it, and those that nothing else speaks against."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from components.data.reasons import RejectReason
from components.data.report.data_set import DataSet
from components.page.words import reason_words


@dataclass(frozen=True)
class ReasonRow:
    """`only`: clips that would be in the set without this reason. `share`: of all clips, of those that carry it."""

    name: str
    clips: int
    only: int
    share: float


@dataclass(frozen=True)
class Balance:
    """Every clip is kept, or rejected by the filter, or a duplicate, or could not be read again."""

    clips: int
    kept: int
    rejected: int
    duplicates: int
    unread: int
    rows: list[ReasonRow]

    @property
    def holds(self) -> bool:
        return self.clips == self.kept + self.rejected + self.duplicates + self.unread


def balance(data: DataSet) -> Balance:
    """The account of all clips."""
    passed, kept = data.passed, data.kept
    duplicates = _duplicates(data)
    rows = _rows(data)
    if duplicates:
        name = reason_words(RejectReason.DUPLICATE)
        rows.append(ReasonRow(name, duplicates, duplicates, duplicates / max(len(data), 1)))
    return Balance(
        clips=len(data),
        kept=int(kept.sum()),
        rejected=int((~passed).sum()),
        duplicates=duplicates,
        unread=int((passed & ~kept).sum()) - duplicates,
        rows=sorted(rows, key=lambda row: -row.clips),
    )


def _duplicates(data: DataSet) -> int:
    return len(data) - data.table["duplicate_of"].null_count if data.has("duplicate_of") else 0


def _rows(data: DataSet) -> list[ReasonRow]:
    if not data.has("reasons"):
        return []
    column: pa.ListArray = data.table["reasons"].combine_chunks()
    if isinstance(column, pa.ChunkedArray):  # of an empty table
        return []
    counts = np.diff(column.offsets.to_numpy())
    encoded = column.flatten().dictionary_encode()
    codes = encoded.indices.to_numpy()
    alone = np.repeat(counts, counts) == 1
    rows = []
    for index, code in enumerate(encoded.dictionary.to_pylist()):
        mine = codes == index
        number = int(mine.sum())
        rows.append(
            ReasonRow(reason_words(code), number, int((mine & alone).sum()), number / max(len(data), 1))
        )
    return rows
