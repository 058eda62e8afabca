"""Does the extractor see what it is asked about? Damage of known strength must show far above the noise of real clips.

Without this a gate on its features would be decoration: features of a network with random weights order damaged clips
by their brightness and not by what was done to their frames.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from components.evaluation.classifier import VOCABULARY, Extractor
from components.evaluation.frechet import even_and_odd, frechet_distance
from components.evaluation.procedural import LabelledClips
from components.evaluation.text_video import TextVideoEncoder

Frames = NDArray[np.uint8]


@dataclass(frozen=True)
class Battery:
    """`floor`: distance between two halves of real clips. `times`: damage -> its distance over that floor.

    `margins`: attribute -> by how much the cosine falls when the caption names another word for it.
    """

    floor: float
    times: dict[str, float]
    matched: float
    margins: dict[str, float]

    def numbers(self) -> dict[str, float]:
        """For the stage's report."""
        return {
            "battery_floor": self.floor,
            "battery_matched_cosine": self.matched,
            **{f"battery_{name}_times_floor": value for name, value in self.times.items()},
            **{f"battery_wrong_{name}_margin": value for name, value in self.margins.items()},
        }


def run_battery(
    extractor: Extractor, encoder: TextVideoEncoder, held_out: LabelledClips, seed: int
) -> Battery:
    """On clips that neither network has seen: one half is the reference, the other is damaged."""
    reference, other = even_and_odd(held_out.clips)
    real = extractor.read(reference).features

    def distance(clips: Frames) -> float:
        return frechet_distance(real, extractor.read(clips).features)

    floor = distance(other)
    damaged = {"shuffled_frames": shuffled(other, seed), "still": still(other)}
    times = {name: distance(clips) / floor for name, clips in damaged.items()}
    features = extractor.read(held_out.clips).features
    words = [
        {name: VOCABULARY[name][held_out.labels[name][row]] for name in VOCABULARY}
        for row in range(len(features))
    ]
    matched = float(encoder.similarity(features, [_caption(one) for one in words]).mean())
    margins = {
        name: matched
        - float(encoder.similarity(features, [_caption(_other(one, name)) for one in words]).mean())
        for name in VOCABULARY
    }
    return Battery(floor, times, matched, margins)


def shuffled(clips: Frames, seed: int) -> Frames:
    """Every clip's frames in an order of its own."""
    rng = np.random.default_rng(seed)
    return np.stack([clip[rng.permutation(len(clip))] for clip in clips])


def still(clips: Frames) -> Frames:
    """The first frame of every clip, all the time."""
    return np.repeat(clips[:, :1], clips.shape[1], axis=1)


def _caption(words: Mapping[str, str]) -> str:
    return " ".join(words.values())


def _other(words: Mapping[str, str], name: str) -> dict[str, str]:
    """The same words, with the next one of the vocabulary for one attribute."""
    vocabulary = VOCABULARY[name]
    return {**words, name: vocabulary[(vocabulary.index(words[name]) + 1) % len(vocabulary)]}
