"""A clip table of any length as frames: part by part, and the few columns of it that are needed as a whole."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from components.data import store
from components.data.drift import NAMES, NUMBERS
from components.data.expectations import REQUIRED, SCORES, Fingerprints, fingerprints, frame_of

if TYPE_CHECKING:
    import pandas as pd

NONE: Fingerprints = np.array([], dtype=np.uint64)
PART_ROWS = 200_000  # clips in memory at a time with all their columns
WHOLE = ("clip_id", "own_caption", *NUMBERS, *NAMES)


@dataclass(frozen=True)
class Parts:
    """The kept clips. `whole` has the columns `WHOLE` of all rows, as small as they can be held."""

    root: Path
    manifest: Path
    whole: "pd.DataFrame"
    sources: int
    leaking: Fingerprints  # of the digests of sources whose clips are in more than one split

    @classmethod
    def read(cls, root: Path, manifest: Path) -> "Parts":
        """Look at every row once."""
        import pandas as pd

        text = pd.ArrowDtype(pa.string())  # 20 bytes a clip, where a Python string takes 70
        kinds = dict.fromkeys(NUMBERS, "float32") | dict.fromkeys(("clip_id", *NAMES), text)
        kinds |= {"seconds": "float64"}  # which are summed
        slim: list[pd.DataFrame] = []
        pairs: list[pd.DataFrame] = []
        for table in _tables(root, manifest):
            frame = frame_of(table, leaking=NONE)
            pairs.append(_splits_of_sources(frame))
            slim.append(frame[list(WHOLE)].astype(kinds))
        whole = pd.concat(slim, ignore_index=True) if slim else frame_of(_empty(root, manifest))[list(WHOLE)]
        for name in NAMES:
            whole[name] = whole[name].astype("category")
        sources, leaking = _leaks(pairs)
        return cls(root, manifest, whole, sources, leaking)

    def frames(self) -> Iterator["pd.DataFrame"]:
        """All columns, part by part."""
        for table in _tables(self.root, self.manifest):
            yield frame_of(table, self.leaking)


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
