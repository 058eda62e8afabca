"""What is expected of the finished clip table: one sentence and one Great Expectations object each.

The sentence is what a failing run prints and what the documentation shows, so it says what the rest of
the pipeline relies on and, where people can act, which parameter to look at.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from components.data.captions import CaptionSource
from components.data.config import ValidateConfig

if TYPE_CHECKING:
    import pandas as pd
    from great_expectations.expectations.expectation import Expectation

Fingerprints = NDArray[np.uint64]
REQUIRED = (
    "clip_id",
    "source",
    "source_digest",
    "start_seconds",
    "end_seconds",
    "fps",
    "frames",
    "width",
    "height",
    "split",
    "caption",
    "caption_source",
)
SCORES = ("motion", "sharpness", "text_share", "brightness")  # null where a scorer is switched off
SHARES = ("text_share", "brightness")
SPLITS = ("train", "validation")
OF_THE_TABLE = frozenset(
    {
        "expect_table_row_count_to_be_between",
        "expect_column_mean_to_be_between",
        "expect_column_distinct_values_to_contain_set",
    }
)
MIN_SIDE = 16  # pixels; below it there is nothing to halve for an autoencoder
MAX_FPS = 240


def fingerprints(digests: "pd.Series[str]") -> Fingerprints:
    """64 bits for each, so that ten million of them can be compared; two agree by chance once in 10^5 sets."""
    from pandas.util import hash_array

    found: Fingerprints = hash_array(digests.to_numpy(dtype=object), categorize=False)
    return found


def frame_of(
    table: pa.Table, leaking: Fingerprints | None = None, repeated: Fingerprints | None = None
) -> "pd.DataFrame":
    """The table with columns worked out from several: length, words, whether the caption is its own, leaks.

    `leaking` are sources with clips in several splits, `repeated` are ids that come more than once; where they are not
    given, the table is taken for all there is.
    """
    frame = table.select([*REQUIRED, *SCORES]).to_pandas()
    frame["seconds"] = frame["end_seconds"] - frame["start_seconds"]
    frame["caption_words"] = frame["caption"].fillna("").str.split().str.len()
    frame["own_caption"] = (frame["caption_source"] != CaptionSource.FALLBACK.value).astype(float)
    if leaking is None:
        frame["splits_of_source"] = frame.groupby("source_digest")["split"].transform("nunique")
    else:
        frame["splits_of_source"] = 1 + np.isin(fingerprints(frame["source_digest"]), leaking)
    if repeated is None:
        frame["is_repeated"] = frame["clip_id"].duplicated(keep=False).astype(int)
    else:
        frame["is_repeated"] = np.isin(fingerprints(frame["clip_id"]), repeated).astype(int)
    return frame


def expectations(config: ValidateConfig, frame: "pd.DataFrame") -> list["Expectation"]:
    """All expectations of the rows that `frame_of` gives, in the order of the report."""
    computed = [name for name in SCORES if frame[name].notna().any()]
    return [*_size(config), *_clips(), *_splits(), *_captions(config), *_scores(config, computed)]


def needs_all_rows(expectation: "Expectation") -> bool:
    """True where the expectation is of the table as a whole and not of each row."""
    return expectation.configuration.type in OF_THE_TABLE


def _said(words: str) -> dict[str, Any]:
    """The sentence of an expectation, for the documentation and for the report."""
    return {"notes": words, "meta": {"words": words}}


def _between(column: str, words: str, **bounds: float) -> "Expectation":
    import great_expectations.expectations as gxe

    return gxe.ExpectColumnValuesToBeBetween(column=column, **bounds, **_said(words))


def _in_set(column: str, words: str, values: Sequence[str]) -> "Expectation":
    import great_expectations.expectations as gxe

    return gxe.ExpectColumnValuesToBeInSet(
        column=column, value_set=[str(value) for value in values], **_said(words)
    )


def _mean(column: str, words: str, floor: float) -> "Expectation":
    import great_expectations.expectations as gxe

    return gxe.ExpectColumnMeanToBeBetween(column=column, min_value=floor, **_said(words))


def _size(config: ValidateConfig) -> list["Expectation"]:
    import great_expectations.expectations as gxe

    rows = _said(f"there are at least {config.min_clips} clips (validation.min_clips)")
    columns = _said("the table has every column that later stages read")
    return [
        gxe.ExpectTableRowCountToBeBetween(min_value=config.min_clips, **rows),
        gxe.ExpectTableColumnsToMatchSet(column_set=[*REQUIRED, *SCORES], exact_match=False, **columns),
    ]


def _clips() -> list["Expectation"]:
    import great_expectations.expectations as gxe

    digits = _said("clip ids are 16 hexadecimal digits")
    return [
        *(
            gxe.ExpectColumnValuesToNotBeNull(column=name, **_said(f"every clip has {name}"))
            for name in REQUIRED
        ),
        _between("is_repeated", "each clip is in the table once", max_value=0),
        gxe.ExpectColumnValuesToMatchRegex(column="clip_id", regex="^[0-9a-f]{16}$", **digits),
        _between("start_seconds", "clips start inside of their file", min_value=0),
        _between("seconds", "clips end after they start", min_value=0, strict_min=True),
        _between("frames", "clips have frames", min_value=1),
        _between("fps", f"frame rates are between 1 and {MAX_FPS}", min_value=1, max_value=MAX_FPS),
        _between("height", f"clips are at least {MIN_SIDE} pixels high", min_value=MIN_SIDE),
        _between("width", f"clips are at least {MIN_SIDE} pixels wide", min_value=MIN_SIDE),
    ]


def _splits() -> list["Expectation"]:
    import great_expectations.expectations as gxe

    words = "there are clips for training (ingest.validation_share, or `split` in a sidecar)"
    training = gxe.ExpectColumnDistinctValuesToContainSet(column="split", value_set=["train"], **_said(words))
    return [
        _in_set("split", "every clip is for training or for validation", SPLITS),
        training,
        _between("splits_of_source", "no file has clips in both training and validation", max_value=1),
    ]


def _captions(config: ValidateConfig) -> list["Expectation"]:
    coverage = f"{config.min_caption_coverage:.0%} of the clips have a caption of their own"
    words = f"at least {coverage} (validation.min_caption_coverage; see reports/caption.json)"
    return [
        _between("caption_words", "no caption is empty", min_value=1),
        _in_set("caption_source", "it is known where each caption comes from", list(CaptionSource)),
        _mean("own_caption", words, config.min_caption_coverage),
    ]


def _scores(config: ValidateConfig, computed: list[str]) -> list["Expectation"]:
    """Of scores that were computed; a floor on the motion asks for it to be computed."""
    shares = [
        _between(name, f"{name} is a share, between 0 and 1", min_value=0, max_value=1)
        for name in SHARES
        if name in computed
    ]
    if "motion" not in computed and not config.min_motion_mean:
        return shares
    words = f"the mean motion is at least {config.min_motion_mean:g} (validation.min_motion_mean)"
    return [*shares, _mean("motion", words, config.min_motion_mean)]
