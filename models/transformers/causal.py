"""Which frames a causal transformer shows to a frame.

Frames come in blocks. The frames of a block see each other and all earlier blocks, or the latest of them and the first
frames of the video ("sink"). A rule about frames becomes a mask of frames x frames, never of tokens x tokens.
Per pass over the frames there are three situations, each an object with the methods of `History`: a whole clip; clean
frames in front of noisy ones, which trains the model on what it has at generation (teacher forcing); and new frames
after remembered ones (`key_value_cache`). B batch, T H W token grid, K head width.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol, TypeVar

from torch import Tensor

# one row per frame that looks, one column per frame that is looked at
FrameMask = tuple[tuple[bool, ...], ...]
Place = Callable[[Tensor, int], Tensor]
Made = TypeVar("Made")


@dataclass(frozen=True, kw_only=True, slots=True)
class FrameBlocks:
    """Blocks of `size` frames, of which the first may have a length of its own (1: a video that starts from an image).

    A frame sees up to the end of its block: everything before, or with `local` that many frames counted back from the
    end of its block, and the first `sink` frames of the video.
    """

    size: int = 1
    first: int | None = None
    local: int | None = None
    sink: int = 0

    def __post_init__(self) -> None:
        longest = max(self.size, self.first or 1)
        if self.size < 1 or (self.first is not None and self.first < 1):
            raise ValueError(f"frame blocks of {self.size} and first {self.first}: use 1 frame or more")
        if self.local is not None and self.local < longest:
            raise ValueError(
                f"local {self.local} frames: a block of {longest} must see itself whole; use more"
            )
        if self.sink < 0:
            raise ValueError(f"sink {self.sink}: use 0 frames or more")

    def bounds(self, frame: int) -> tuple[int, int]:
        """The first frame of the block that `frame` is in, and the one after its last."""
        first = self.size if self.first is None else self.first
        if frame < first:
            return 0, first
        start = first + (frame - first) // self.size * self.size
        return start, start + self.size

    def sees(self, frame: int, other: int) -> bool:
        """Whether `frame` may look at `other`."""
        _, end = self.bounds(frame)
        near = self.local is None or other >= end - self.local
        return other < end and (near or other < self.sink)


FRAME_BY_FRAME = FrameBlocks()


@lru_cache(maxsize=256)
def frame_mask(blocks: FrameBlocks, frames: tuple[int, ...], seen: tuple[int, ...]) -> FrameMask:
    """Which of the frames numbered `seen` each of the frames numbered `frames` may look at."""
    return tuple(tuple(blocks.sees(frame, other) for other in seen) for frame in frames)


@lru_cache(maxsize=256)
def teacher_mask(blocks: FrameBlocks, frames: int) -> FrameMask:
    """The mask of [clean | noisy]: clean frames see clean ones, noisy ones earlier clean blocks and their own block."""

    def noisy(frame: int) -> tuple[bool, ...]:
        start, end = blocks.bounds(frame)
        clean = (other < start and blocks.sees(frame, other) for other in range(frames))
        return (*clean, *(start <= other < end for other in range(frames)))

    clean = frame_mask(blocks, tuple(range(frames)), tuple(range(frames)))
    return (*((*row, *(False,) * frames) for row in clean), *(noisy(frame) for frame in range(frames)))


class History(Protocol):
    """What a self-attention layer is told about the frames that it is given."""

    def place(self, query_key: Tensor, place: Place) -> Tensor:
        """Queries and keys (B, T, H, W, 2, heads, K) turned to the positions of their frames."""

    def extend(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values (B, T, H, W, heads, K) of these frames -> those of all frames that may be looked at."""

    def mask(self, blocks: FrameBlocks, frames: int) -> FrameMask | None:
        """Who sees whom after `extend`; None where that is what the window says."""


class WholeClip:
    """The frames are a video from its first frame on."""

    def place(self, query_key: Tensor, place: Place) -> Tensor:
        return place(query_key, 0)

    def extend(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        return key, value

    def mask(self, blocks: FrameBlocks, frames: int) -> FrameMask | None:
        if blocks == FRAME_BY_FRAME:
            return None
        return frame_mask(blocks, tuple(range(frames)), tuple(range(frames)))


class TeacherForcing:
    """The frames are [clean | noisy], twice the same video: the layout in which a causal model learns.

    What a cache holds at generation are, in training, the clean frames. Both halves have the same positions.
    """

    def block(self, _index: int) -> History:
        """The same for every block of the model."""
        return self

    def text(self, make: Callable[[], Made]) -> Made:
        """The captions, made anew in every pass."""
        return make()

    def place(self, query_key: Tensor, place: Place) -> Tensor:
        frames = self._half(query_key.shape[1])
        return place(query_key.reshape(-1, frames, *query_key.shape[2:]), 0).view(query_key.shape)

    def extend(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        return key, value

    def mask(self, blocks: FrameBlocks, frames: int) -> FrameMask | None:
        return teacher_mask(blocks, self._half(frames))

    def _half(self, frames: int) -> int:
        if frames % 2:
            raise ValueError(f"{frames} frames are not [clean | noisy]: give as many clean as noisy frames")
        return frames // 2


def rows_alike(mask: FrameMask) -> Sequence[tuple[slice, tuple[int, ...]]]:
    """Neighbouring frames that see the same frames: (frames that look, numbers of the columns they see)."""
    found: list[tuple[slice, tuple[int, ...]]] = []
    start = 0
    for end in range(1, len(mask) + 1):
        if end == len(mask) or mask[end] != mask[start]:
            found.append((slice(start, end), tuple(i for i, seen in enumerate(mask[start]) if seen)))
            start = end
    return found
