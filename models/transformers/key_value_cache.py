"""What a causal transformer remembers of finished frames while it makes the next ones.

Without it every block of new frames would be computed together with all frames before it. It is one of the histories of
`causal.History`. B batch, T H W token grid, K head width.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from models.transformers.causal import FrameBlocks, FrameMask, Place, frame_mask
from models.transformers.text_attention import Text


class KeyValueCache:
    """Keys and values of finished frames, for every block of a model, while a video is made block by block.

    A pass sees the remembered frames and its own. `keep()` after the pass over finished frames makes them remembered;
    without it the next pass takes their place, as denoising does. It holds `frames` frames, those of the pass
    included; when it is full the oldest go, but for the first `sink` ones. Guidance needs a cache per branch, or one
    batch of both branches.
    Its size is 2 x layers x tokens x width x bytes of the precision that the model computes in.
    """

    def __init__(self, *, frames: int, sink: int = 0) -> None:
        if not 0 <= sink < frames:
            raise ValueError(f"a cache of {frames} frames with {sink} sink frames: use 0 <= sink < frames")
        self.frames = frames
        self.sink = sink
        self._blocks: dict[int, BlockCache] = {}
        self._text: Text | None = None

    def block(self, index: int) -> "BlockCache":
        """The memory of one block of the model."""
        return self._blocks.setdefault(index, BlockCache(self.frames, self.sink))

    def text(self, make: Callable[[], Text]) -> Text:
        """The captions of the first pass, with what blocks make of them: a cache is for one prompt."""
        if self._text is None:
            self._text = make()._replace(made={})
        return self._text

    @property
    def next_frame(self) -> int:
        """The number, in the video, of the first frame that is not remembered yet."""
        return max((block.next_frame for block in self._blocks.values()), default=0)

    def keep(self) -> None:
        """The frames of the last pass are finished: later passes look at them."""
        for block in self._blocks.values():
            block.keep()


class BlockCache:
    """The memory of one block. Keys are stored after rotary, with the number of their frame in the video."""

    def __init__(self, frames: int, sink: int) -> None:
        self.frames = frames
        self.sink = sink
        self.next_frame = 0
        self._held: tuple[int, ...] = ()  # the numbers of the frames remembered
        self._new = 0  # frames of the last pass, after those in the buffers
        self._key = self._value = torch.empty(0)

    def place(self, query_key: Tensor, place: Place) -> Tensor:
        return place(query_key, self.next_frame)

    def extend(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Raises `ValueError` for a batch or a picture of another size, too many frames at once, or with gradients."""
        if key.requires_grad:
            raise ValueError("a key-value cache is for generation: run under torch.no_grad or inference_mode")
        self._new = key.shape[1]
        self._make_room(key)
        start, end = len(self._held), len(self._held) + self._new
        for buffer, new in ((self._key, key), (self._value, value)):
            buffer[:, start:end] = new
        return self._key[:, :end], self._value[:, :end]

    def mask(self, blocks: FrameBlocks, frames: int) -> FrameMask | None:
        new = tuple(range(self.next_frame, self.next_frame + frames))
        return frame_mask(blocks, new, self._held + new)

    def keep(self) -> None:
        """Remember the frames of the last pass."""
        self._held += tuple(range(self.next_frame, self.next_frame + self._new))
        self.next_frame += self._new
        self._new = 0

    def _make_room(self, like: Tensor) -> None:
        batch, frames, *rest = like.shape
        if frames > self.frames - self.sink:
            raise ValueError(
                f"{frames} frames at once in a cache of {self.frames} with {self.sink} sink frames;"
                " pass fewer frames, or make the cache larger"
            )
        shape = (batch, self.frames, *rest)
        if not self._held and self._key.shape != shape:
            with torch.inference_mode(False):  # buffers made during inference could not be written to later
                self._key, self._value = like.new_empty(shape), like.new_empty(shape)
        if self._key.shape != shape:
            raise ValueError(
                f"the cache holds {tuple(self._key.shape)}, these frames need {shape}: use a new one"
            )
        surplus = len(self._held) + frames - self.frames
        if surplus > 0:
            self._evict(surplus)

    def _evict(self, count: int) -> None:
        kept = self._held[: self.sink] + self._held[self.sink + count :]
        for buffer in (self._key, self._value):
            buffer[:, self.sink : len(kept)] = buffer[:, self.sink + count : len(self._held)].clone()
        self._held = kept
