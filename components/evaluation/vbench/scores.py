"""VBench's dimensions, and how raw scores become Quality, Semantic and Total.

The constants are those of VBench 0.1.5, which ships them in its repository and not in its package. A raw score is
normalised with the extremes that its authors found, without clipping. A missing dimension is never counted as zero:
the group then has no score.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

Group = Literal["quality", "semantic"]


@dataclass(frozen=True)
class Dimension:
    """`low` and `high` are the raw scores that become 0 and 1."""

    group: Group
    low: float = 0.0
    high: float = 1.0
    weight: float = 1.0

    def normalised(self, raw: float) -> float:
        return (raw - self.low) / (self.high - self.low)


DIMENSIONS: Mapping[str, Dimension] = {
    "subject_consistency": Dimension("quality", low=0.1462),
    "background_consistency": Dimension("quality", low=0.2615),
    "temporal_flickering": Dimension("quality", low=0.6293),
    "motion_smoothness": Dimension("quality", low=0.706, high=0.9975),
    "dynamic_degree": Dimension("quality", weight=0.5),
    "aesthetic_quality": Dimension("quality"),
    "imaging_quality": Dimension("quality"),
    "object_class": Dimension("semantic"),
    "multiple_objects": Dimension("semantic"),
    "human_action": Dimension("semantic"),
    "color": Dimension("semantic"),
    "spatial_relationship": Dimension("semantic"),
    "scene": Dimension("semantic", high=0.8222),
    "appearance_style": Dimension("semantic", low=0.0009, high=0.2855),
    "temporal_style": Dimension("semantic", high=0.364),
    "overall_consistency": Dimension("semantic", high=0.364),
}
QUALITY_SHARE, SEMANTIC_SHARE = 4.0, 1.0
HIGHEST = 2.0  # of a raw score; what lies above was given in per cent


def aggregate(raw_scores: Mapping[str, float]) -> dict[str, float]:
    """`quality`, `semantic` and `total`, each in about 0..1, from the raw scores of all sixteen dimensions.

    Names are VBench's, as its files write them (`subject_consistency`) or as its tables do ("subject consistency").
    Raises `ValueError` naming dimensions that are missing, unknown, given twice, not finite, or given in per cent.
    """
    quality, semantic = (group_score(raw_scores, group) for group in ("quality", "semantic"))
    return {"quality": quality, "semantic": semantic, "total": total_score(quality, semantic)}


def group_score(raw_scores: Mapping[str, float], group: Group) -> float:
    """Weighted mean of the normalised dimensions of a group.

    Raises `ValueError` as `aggregate` does, for this group's dimensions.
    """
    raw_scores = _by_identifier(raw_scores)
    _refuse(
        f"are no VBench dimensions; it has {', '.join(DIMENSIONS)}", raw_scores.keys() - DIMENSIONS.keys()
    )
    members = {name: dimension for name, dimension in DIMENSIONS.items() if dimension.group == group}
    _refuse(
        f"are missing, and {group} is not a score without them; evaluate them, or report dimensions one by one",
        members.keys() - raw_scores.keys(),
    )
    _refuse("have no finite score", [name for name in members if not math.isfinite(raw_scores[name])])
    _refuse(
        "are above 2; raw scores are fractions of about 0..1, not per cent",
        [name for name in members if raw_scores[name] > HIGHEST],
    )
    total = sum(
        dimension.weight * dimension.normalised(raw_scores[name]) for name, dimension in members.items()
    )
    return total / sum(dimension.weight for dimension in members.values())


def total_score(quality: float, semantic: float) -> float:
    """VBench's Total: four parts Quality, one part Semantic."""
    return (QUALITY_SHARE * quality + SEMANTIC_SHARE * semantic) / (QUALITY_SHARE + SEMANTIC_SHARE)


def _by_identifier(raw_scores: Mapping[str, float]) -> dict[str, float]:
    """The same scores under the names of `DIMENSIONS`; None, as of a dimension that was not run, is no number."""
    named: dict[str, float] = {}
    for told, score in raw_scores.items():
        name = "_".join(told.lower().replace("-", " ").replace("_", " ").split())
        if name in named:
            _refuse("is given twice", [name])
        named[name] = math.nan if score is None else float(score)
    return named


def _refuse(said: str, names: Iterable[str]) -> None:
    if found := sorted(names):
        raise ValueError(f"{', '.join(found)} {said}")
