"""The clip table as the report reads it: its newest state, and only the columns that the page shows."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from components.data import store
from components.data.filter import SCORES
from components.errors import ContractError
from components.params import Params
from components.stage import CLIPS

STATES = ("dedup", "caption", "filter", "score", "split")  # newest first
REASONS = ("reasons", "caption_reasons")  # of the filter, and of the language of a caption
COLUMNS = (
    "clip_id",
    "source",
    "start_seconds",
    "end_seconds",
    "licence",
    "split",
    *REASONS,
    "caption",
    "caption_source",
    "duplicate_of",
    "kept",
    *SCORES,
)
Marks = NDArray[np.bool_]


@dataclass(frozen=True)
class DataSet:
    """Rows of one state of the clip table. A column that the state does not have is None."""

    root: Path
    params: Params
    manifest: store.Manifest
    table: pa.Table

    @classmethod
    def load(cls, root: Path) -> "DataSet":
        """Raises `ContractError` when no data stage has made a table of clips yet."""
        for stage in STATES:
            path = root / CLIPS / f"{stage}.json"
            if path.is_file() and store.is_stored(root, path):
                manifest = store.Manifest.read(path)
                table = store.read(root, path, [name for name in COLUMNS if name in manifest.columns])
                return cls(root, Params.load(root / "params.yaml"), manifest, table)
        raise ContractError(
            "there is no clip table yet: `reelforge stage split` makes one, `reelforge run` all of it"
        )

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def has(self, column: str) -> bool:
        return column in self.table.column_names

    def numbers(self, column: str) -> NDArray[np.float64]:
        """Values of a score, NaN where there is none."""
        values: NDArray[Any] = self.table[column].to_numpy(zero_copy_only=False)
        return values.astype(np.float64)

    @property
    def seconds(self) -> NDArray[np.float64]:
        return self.numbers("end_seconds") - self.numbers("start_seconds")

    def reasons(self) -> tuple[list[str], NDArray[np.int64]]:
        """All reason codes against clips, and the row of each."""
        lists = [self.table[name].combine_chunks() for name in REASONS if self.has(name)]
        known = [each for each in lists if len(each)]  # that of an empty table is in no chunk
        codes = [code for each in known for code in each.flatten().to_pylist()]
        rows = [pc.list_parent_indices(each).to_numpy() for each in known]
        return codes, np.concatenate([np.zeros(0, np.int64), *rows])

    @property
    def passed(self) -> Marks:
        """Clips without a reason against them; all of them before the filter."""
        passed = np.ones(len(self), dtype=np.bool_)
        passed[self.reasons()[1]] = False
        return passed

    @property
    def kept(self) -> Marks:
        """Clips that are in the finished set; those that passed where it is not finished."""
        if not self.has("kept"):
            return self.passed
        kept: Marks = self.table["kept"].to_numpy(zero_copy_only=False).astype(np.bool_)
        return kept
