"""A clip table of any length as frames: part by part, and the few columns of it that are needed as a whole."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from components.data import store
from components.data.drift import NAMES, NUMBERS
from components.data.expectations import REQUIRED, SCORES, Fingerprints, fingerprints, frame_of

if TYPE_CHECKING:
    import pandas as pd

NONE: Fingerprints = np.array([], dtype=np.uint64)
PART_ROWS = 100_000  # clips in memory at a time with all their columns
WHOLE = ("own_caption", *NUMBERS, *NAMES)


@dataclass(frozen=True)
class Parts:
    """The kept clips. `whole` has the columns `WHOLE` of all rows, as small as they can be held."""

    root: Path
    manifest: Path
    whole: "pd.DataFrame"
    sources: int
    leaking: Fingerprints  # of the digests of sources whose clips are in more than one split
    repeated: Fingerprints  # of ids that come more than once

    @classmethod
    def read(cls, root: Path, manifest: Path) -> "Parts":
        """Look at every row once."""
        import pandas as pd

        kinds = dict.fromkeys(NUMBERS, "float32") | dict.fromkeys(NAMES, "category")
        kinds |= {"seconds": "float64"}  # which are summed
        slim: list[pd.DataFrame] = []
        pairs: list[pd.DataFrame] = []
        ids: list[Fingerprints] = []
        for table in _tables(root, manifest):
            frame = frame_of(table, leaking=NONE, repeated=NONE)
            ids.append(fingerprints(frame["clip_id"]))
            pairs.append(_splits_of_sources(frame))
            slim.append(frame[list(WHOLE)].astype(kinds))
        sources, leaking = _leaks(pairs)
        whole = _joined(slim) if slim else frame_of(_empty(root, manifest))[list(WHOLE)].astype(kinds)
        return cls(root, manifest, whole, sources, leaking, _repeated(ids))

    def frames(self) -> Iterator["pd.DataFrame"]:
        """All columns, part by part."""
        for table in _tables(self.root, self.manifest):
            yield frame_of(table, self.leaking, self.repeated)


def _joined(parts: "list[pd.DataFrame]") -> "pd.DataFrame":
    """All rows of the parts, which are used up column by column: never more than one column is there twice."""
    import pandas as pd
    from pandas.api.types import union_categoricals

    columns: dict[str, Any] = {}
    for name in WHOLE:
        pieces = [part.pop(name) for part in parts]
        names = name in NAMES
        columns[name] = union_categoricals(pieces, sort_categories=True) if names else np.concatenate(pieces)
    return pd.DataFrame(columns, copy=False)


def _repeated(ids: Sequence[Fingerprints]) -> Fingerprints:
    """Those that come more than once."""
    if not ids:
        return NONE
    every = np.concatenate(ids)
    every.sort()
    return np.unique(every[1:][every[1:] == every[:-1]])


def _splits_of_sources(frame: "pd.DataFrame") -> "pd.DataFrame":
    """The distinct pairs of source, as a fingerprint, and split in a part."""
    known = frame[["source_digest", "split"]].drop_duplicates().dropna()
    return known.assign(
        source_digest=fingerprints(known["source_digest"]), split=fingerprints(known["split"])
    )


def _leaks(pairs: Sequence["pd.DataFrame"]) -> tuple[int, Fingerprints]:
    """How many sources there are, and those that come with more than one split."""
    import pandas as pd

    if not pairs:
        return 0, NONE
    distinct = pd.concat(pairs, ignore_index=True).drop_duplicates()["source_digest"].to_numpy()
    sources, counts = np.unique(distinct, return_counts=True)
    return len(sources), sources[counts > 1]


def _tables(root: Path, manifest: Path) -> Iterator[pa.Table]:
    return store.read_parts(root, manifest, [*REQUIRED, *SCORES], rows=PART_ROWS, where="kept")


def _empty(root: Path, manifest: Path) -> pa.Table:
    return store.read(root, manifest, [*REQUIRED, *SCORES]).slice(0, 0)
