"""A clip table of any length as frames: part by part, and the few columns of it that are needed as a whole."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from components.data import store
from components.data.drift import NAMES, NUMBERS
from components.data.expectations import REQUIRED, SCORES, frame_of

if TYPE_CHECKING:
    import pandas as pd

PART_ROWS = 200_000  # clips in memory at a time with all their columns
WHOLE = ("clip_id", "own_caption", *NUMBERS, *NAMES)


@dataclass(frozen=True)
class Parts:
    """The kept clips. `whole` has the columns `WHOLE`, numbers in float32 and names as categories, of all rows."""

    root: Path
    manifest: Path
    whole: "pd.DataFrame"
    splits: dict[str, int]  # source digest -> splits that its clips are in

    @classmethod
    def read(cls, root: Path, manifest: Path) -> "Parts":
        """Look at every row once."""
        import pandas as pd

        slim: list[pd.DataFrame] = []
        seen: dict[str, str] = {}
        mixed: set[str] = set()
        for table in _tables(root, manifest):
            frame = frame_of(table, splits={})
            pairs = frame[["source_digest", "split"]].drop_duplicates().dropna()
            for digest, split in pairs.itertuples(index=False):
                if seen.setdefault(digest, split) != split:
                    mixed.add(digest)
            kinds = dict.fromkeys(NUMBERS, "float32") | {"seconds": "float64"}  # which are summed
            slim.append(frame[list(WHOLE)].astype(kinds))
        whole = pd.concat(slim, ignore_index=True) if slim else frame_of(_empty(root, manifest))[list(WHOLE)]
        for name in NAMES:
            whole[name] = whole[name].astype("category")
        return cls(root, manifest, whole, {digest: 2 if digest in mixed else 1 for digest in seen})

    def frames(self) -> Iterator["pd.DataFrame"]:
        """All columns, part by part."""
        for table in _tables(self.root, self.manifest):
            yield frame_of(table, self.splits)


def _tables(root: Path, manifest: Path) -> Iterator[pa.Table]:
    return store.read_parts(root, manifest, [*REQUIRED, *SCORES], rows=PART_ROWS, where="kept")


def _empty(root: Path, manifest: Path) -> pa.Table:
    return store.read(root, manifest, [*REQUIRED, *SCORES]).slice(0, 0)
