"""What every reason costs: the clips that carry it, and those that nothing else speaks against."""

import itertools
from collections import Counter
from dataclasses import dataclass

import numpy as np

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
    """Every clip is kept, or rejected for a reason, or a duplicate, or could not be read again."""

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
    codes, of_clips = data.reasons()
    alone = np.bincount(of_clips, minlength=len(data))[of_clips] == 1
    every, only = Counter(codes), Counter(itertools.compress(codes, alone))
    return [
        ReasonRow(reason_words(code), number, only[code], number / max(len(data), 1))
        for code, number in sorted(every.items())
    ]
