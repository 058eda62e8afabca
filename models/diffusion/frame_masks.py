"""Frame masks: which latent frames a training sample is given and which it must generate.

With these strategies one model learns image-to-video, continuation, interpolation and connection beside
text-to-video. Names and shares are those of Open-Sora 1.2; its code fails on clips of two or three latent
frames, here every strategy holds from one frame on.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Protocol

import torch
from torch import Generator, Tensor


@dataclass(frozen=True, kw_only=True)
class FrameMasks:
    """Share of samples per strategy; the rest generates every frame. The shares may not exceed 1 in sum.

    quarter: a run of 1 to T//4 frames (at least 1) is given; image: exactly one frame (at both ends: one
    each); interpolate: every second frame; random: each frame with a probability drawn in 0.1..0.9.
    """

    random: float = 0.0
    interpolate: float = 0.0
    quarter_random: float = 0.0
    quarter_head: float = 0.0
    quarter_tail: float = 0.0
    quarter_head_tail: float = 0.0
    image_random: float = 0.0
    image_head: float = 0.0
    image_tail: float = 0.0
    image_head_tail: float = 0.0

    def __post_init__(self) -> None:
        shares = asdict(self)
        if min(shares.values()) < 0 or sum(shares.values()) > 1 + 1e-9:
            raise ValueError(f"mask shares must be non-negative and sum to at most 1: {shares}")

    @property
    def any(self) -> bool:
        """True if some samples are masked at all."""
        return bool(sum(asdict(self).values()) > 0)

    def draw(self, batch: int, latent_frames: int, generator: Generator) -> Tensor:
        """Mask (batch, latent_frames) bool on the CPU: True is generated, False is given.

        One draw per sample. Every row has a True: where a strategy would give all frames, the last one is
        generated. A still image (one latent frame) is never masked.
        """
        rows = [self._row(latent_frames, generator) for _ in range(batch)]
        return torch.stack(rows)

    def _row(self, frames: int, generator: Generator) -> Tensor:
        name = self._choose(generator)
        if name is None or frames == 1:
            return torch.ones(frames, dtype=torch.bool)
        given = STRATEGIES[name](frames, generator)
        if given.all():
            given[-1] = False
        return ~given

    def _choose(self, generator: Generator) -> str | None:
        point = _uniform(generator)
        for name, share in asdict(self).items():
            if point < share:
                return str(name)
            point -= share
        return None


@dataclass(frozen=True, kw_only=True)
class FramePrediction:
    """The first latent frames are given to a share of the samples, as in W.A.L.T: one of them, or more.

    One stands for an image that a video starts with, two for the five pixel frames that continue a video.
    """

    probability: float = 0.5  # not published, a choice
    longest: int = 2  # each length from 1 to this is equally likely

    def __post_init__(self) -> None:
        if not 0 <= self.probability <= 1:
            raise ValueError(f"probability must be in 0..1, not {self.probability}")
        if self.longest < 1:
            raise ValueError(f"longest must be at least 1 latent frame, not {self.longest}")

    @property
    def any(self) -> bool:
        """True if some samples are masked at all."""
        return self.probability > 0

    def draw(self, batch: int, latent_frames: int, generator: Generator) -> Tensor:
        """As `FrameMasks.draw`: (batch, latent_frames) bool, True is generated; never all of them given."""
        rows = [self._row(latent_frames, generator) for _ in range(batch)]
        return torch.stack(rows)

    def _row(self, frames: int, generator: Generator) -> Tensor:
        given = _uniform(generator) < self.probability
        length = min(_integer(1, self.longest, generator), frames - 1)
        return ~_run(frames, 0, length if given else 0)


class Strategy(Protocol):
    """Which of `frames` latent frames are given: bool (frames,)."""

    def __call__(self, frames: int, generator: Generator) -> Tensor: ...


def _uniform(generator: Generator) -> float:
    return float(torch.rand((), generator=generator, device=generator.device))


def _integer(low: int, high: int, generator: Generator) -> int:
    """Uniform in low..high, both included."""
    return int(torch.randint(low, high + 1, (), generator=generator, device=generator.device))


def _run(frames: int, start: int, length: int) -> Tensor:
    index = torch.arange(frames)
    return (index >= start) & (index < start + length)


def _length(frames: int, longest: float, generator: Generator) -> int:
    """Length of a run of at most `longest` of the frames, and at least one frame."""
    return _integer(1, max(1, int(frames * longest)), generator)


def _head(longest: float) -> Strategy:
    return lambda frames, generator: _run(frames, 0, _length(frames, longest, generator))


def _tail(longest: float) -> Strategy:
    return lambda frames, generator: _head(longest)(frames, generator).flip(0)


def _anywhere(longest: float) -> Strategy:
    def given(frames: int, generator: Generator) -> Tensor:
        length = _length(frames, longest, generator)
        return _run(frames, _integer(0, frames - length, generator), length)

    return given


def _both_ends(longest: float) -> Strategy:
    def given(frames: int, generator: Generator) -> Tensor:
        head = _head(longest)(frames, generator)
        return head | head.flip(0)

    return given


def _every_second(frames: int, generator: Generator) -> Tensor:
    return torch.arange(frames) % 2 == _integer(0, 1, generator)


def _each(frames: int, generator: Generator) -> Tensor:
    probability = 0.1 + 0.8 * _uniform(generator)
    uniform = torch.rand(frames, generator=generator, device=generator.device)
    return uniform.cpu() < probability


QUARTER, ONE = 0.25, 0.0  # longest run, as a share of the frames
STRATEGIES: dict[str, Strategy] = {
    "random": _each,
    "interpolate": _every_second,
    "quarter_random": _anywhere(QUARTER),
    "quarter_head": _head(QUARTER),
    "quarter_tail": _tail(QUARTER),
    "quarter_head_tail": _both_ends(QUARTER),
    "image_random": _anywhere(ONE),
    "image_head": _head(ONE),
    "image_tail": _tail(ONE),
    "image_head_tail": _both_ends(ONE),
}

_STAGE_1_AND_2 = FrameMasks(
    random=0.05,
    interpolate=0.005,
    quarter_random=0.005,
    quarter_head=0.005,
    quarter_tail=0.005,
    quarter_head_tail=0.005,
    image_random=0.025,
    image_head=0.05,
    image_tail=0.025,
    image_head_tail=0.025,
)
# the shares of the training stages of Open-Sora 1.2; "stage2_july" is the revision of July 2024
PUBLISHED: Mapping[str, FrameMasks] = {
    "adapt": FrameMasks(
        random=0.2,
        interpolate=0.01,
        quarter_random=0.01,
        quarter_head=0.01,
        quarter_tail=0.01,
        quarter_head_tail=0.01,
        image_random=0.05,
        image_head=0.1,
        image_tail=0.05,
        image_head_tail=0.05,
    ),
    "stage1": _STAGE_1_AND_2,
    "stage2": _STAGE_1_AND_2,
    "stage2_july": FrameMasks(
        random=0.005,
        interpolate=0.002,
        quarter_random=0.007,
        quarter_head=0.002,
        quarter_tail=0.002,
        quarter_head_tail=0.002,
        image_head=0.22,
        image_tail=0.005,
        image_head_tail=0.005,
    ),
    "stage3": FrameMasks(
        random=0.01,
        interpolate=0.002,
        quarter_random=0.002,
        quarter_head=0.002,
        quarter_tail=0.002,
        quarter_head_tail=0.002,
        image_head=0.22,
        image_tail=0.005,
        image_head_tail=0.005,
    ),
}
