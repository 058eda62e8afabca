"""Nothing gets lost: what goes into a stage is what it keeps and what it drops, each item with one reason.

A stage that cannot account for every item stops by name, before it writes: a data set that shrank without a reason
is found out when the model is trained, and then by nobody.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from components.errors import DataQualityError


def first_reasons(reasons: Iterable[Sequence[str]]) -> Counter[str]:
    """How many items were dropped, each counted once by the first of its reasons; an empty list is kept."""
    return Counter(codes[0] for codes in reasons if codes)


def balance(stage: str, unit: str, given: int, kept: int, dropped: Mapping[str, int]) -> dict[str, int]:
    """`{"in": 9, "kept": 7, "blurry": 2}` for a report. Raises `DataQualityError` when that does not add up.

    `dropped` counts each item once, by its first reason; `unit` says what is counted, as "clips".
    """
    found = kept + sum(dropped.values())
    if given != found or kept < 0 or min(dropped.values(), default=0) < 0:
        named = ", ".join(f"{count} {code}" for code, count in sorted(dropped.items())) or "none"
        raise DataQualityError(
            f"{stage}: the {unit} do not balance: {given} went in, {kept} are kept and {sum(dropped.values())} dropped"
            f" ({named}); {abs(given - found)} {'are missing' if given > found else 'are too many'}."
            " Nothing was written; this is a defect of the stage: please report it with reports/*.json"
        )
    return {"in": given, "kept": kept, **{code: count for code, count in sorted(dropped.items()) if count}}
