"""Does a video show what its prompt says? Colour, shape and motion, as the classifier reads them.

A prompt that names no colour is not asked for one: it is not counted, neither as right nor as wrong.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

from components.data.synthetic import COLOURS, MOTIONS, SHAPES, Attributes, attributes_of
from components.evaluation.record import Metric

CHANCE = {"colour": 1 / len(COLOURS), "shape": 1 / len(SHAPES), "motion": 1 / len(MOTIONS)}
NORMAL_95 = 1.959964


@dataclass(frozen=True)
class Judgement:
    """One video: what its prompt asks for, and what was seen. `item` identifies it."""

    item: str
    expected: Attributes
    judged: dict[str, str]
    held_out: bool  # its combination of words is in no training caption

    def hit(self, attribute: str) -> bool | None:
        """None where the prompt does not say."""
        word = dict(self.expected)[attribute]
        return None if word is None else word == self.judged[attribute]


def wilson_interval(successes: int, count: int) -> tuple[float, float]:
    """95 % interval of a share; unlike the normal one it stays inside 0..1 and has width at 0 and 1."""
    if count == 0:
        return 0.0, 1.0
    share, squared = successes / count, NORMAL_95**2 / count
    middle = share + squared / 2
    spread = NORMAL_95 * sqrt((share * (1 - share) + squared / 4) / count)
    return max(0.0, (middle - spread) / (1 + squared)), min(1.0, (middle + spread) / (1 + squared))


def combination(text: str) -> tuple[str, ...] | None:
    """(colour, shape, motion) of a text that names all three."""
    found = attributes_of(text)
    words = (found["colour"], found["shape"], found["motion"])
    return None if None in words else tuple(str(word) for word in words)


def judge(
    items: Sequence[str],
    prompts: Sequence[str],
    words: dict[str, list[str]],
    training_captions: Sequence[str],
) -> list[Judgement]:
    """One judgement per video; `words` are the classifier's, per attribute in the order of the videos."""
    known = {combination(caption) for caption in training_captions}
    return [
        Judgement(
            item,
            attributes_of(prompt),
            {attribute: words[attribute][index] for attribute in CHANCE},
            (asked := combination(prompt)) is not None and asked not in known,
        )
        for index, (item, prompt) in enumerate(zip(items, prompts, strict=True))
    ]


def accuracy_metric(attribute: str, judgements: Sequence[Judgement], identity: str) -> Metric:
    """Share of the prompts that name the attribute and got it; value None where no prompt does."""
    hits = {one.item: hit for one in judgements if (hit := one.hit(attribute)) is not None}
    right = sum(hits.values())
    return Metric(
        value=right / len(hits) if hits else None,
        identity=identity,
        higher_is_better=True,
        n=len(hits),
        unit="share",
        chance=CHANCE[attribute],
        interval=wilson_interval(right, len(hits)) if hits else None,
        per_item={item: float(hit) for item, hit in hits.items()},
    )
