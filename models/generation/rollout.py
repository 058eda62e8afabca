"""Video block by block: a causal transformer makes each block of frames while it looks at the blocks before.

As in Self-Forcing (arXiv 2506.08009): a block is denoised with the keys and values of finished blocks in a cache, then
goes through the model once more at time 0, which writes its own. Any length follows, at a cost per block that does not
grow where the cache rolls. B samples, C channels, T H W latents.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import cast

import torch
from torch import Tensor

from models.diffusion.blockwise_flow import BlockwiseFlow
from models.diffusion.conditions import Progress
from models.diffusion.guidance import Guided
from models.diffusion.samplers import Reference, sample_euler
from models.diffusion.times import Times
from models.generation.given import reference_of
from models.transformers.causal import FrameBlocks
from models.transformers.key_value_cache import KeyValueCache


@dataclass(frozen=True, kw_only=True)
class Rollout:
    """How a causal model makes videos.

    `cached_frames` latent frames are remembered, those of the block at hand included; None: all. When it is more than
    that, the oldest are forgotten but for the first `sink`.
    """

    blocks: FrameBlocks
    times: Times
    steps: int
    cached_frames: int | None = None
    sink: int = 0

    @torch.no_grad()
    def __call__(
        self,
        guided: Guided,
        noise: Tensor,
        given: Tensor | None = None,
        progress: Progress | None = None,
    ) -> Tensor:
        """Latents from `noise` (B, C, T, H, W), whose first frames are `given` (B, C, F, H, W), kept exactly.

        `progress` is called with the frames that are done and all of them. Raises `ValueError` where the given frames
        are not the beginning of these.
        """
        frames = noise.shape[2]
        done = noise[:, :, :0] if given is None else given.to(noise)
        if done.shape[2] >= frames or done[:, :, :0].shape != noise[:, :, :0].shape:
            raise ValueError(
                f"given latents are {tuple(done.shape)} and those to make {tuple(noise.shape)}: they must differ in"
                " frames only, and leave some to make"
            )
        cache = KeyValueCache(frames=self.cached_frames or frames, sink=self.sink)
        guided = replace(guided, model=partial(cast(Callable[..., Tensor], guided.model), cache=cache))
        size = guided.conditions.size
        times = self.times.schedule(self.steps, size, latent_frames=frames)
        start = 0
        while start < frames:
            end = min(self.blocks.bounds(start)[1], frames)
            block = noise[:, :, start:end]
            head = done[:, :, start:end]
            if head.shape[2] < end - start:
                reference = reference_of(head, block) if head.shape[2] else None
                block = sample_euler(guided, block, times, reference=reference)
                done = torch.cat((done[:, :, :start], block), dim=2)
            else:
                block = head
            # times[-1] is 0: the block is finished, and its keys and values are written
            guided(block, times[-1])
            cache.keep()
            start = end
            if progress is not None:
                progress(start, frames)
        return done


@dataclass(frozen=True, kw_only=True)
class CausalFlow(BlockwiseFlow):
    """The objective of a block-causal model with the way it makes videos; the two fields are those of `Rollout`."""

    cached_frames: int | None = None
    sink: int = 0

    @property
    def sampler(self) -> str:
        """What its sampler is called."""
        return "euler, block by block"

    def sample(
        self,
        guided: Guided,
        noise: Tensor,
        steps: int,
        *,
        reference: Reference | None = None,
        progress: Progress | None = None,
    ) -> Tensor:
        """Latents from `noise` (B, C, T, H, W), `steps` per block; the first frames of `reference` are kept.

        Raises `ValueError` where others than the first frames are given, or where they are to be edited.
        """
        rollout = Rollout(
            blocks=self.blocks,
            times=self.times,
            steps=steps,
            cached_frames=self.cached_frames,
            sink=self.sink,
        )
        return rollout(guided, noise, None if reference is None else head_of(reference, noise), progress)


def head_of(reference: Reference, noise: Tensor) -> Tensor:
    """The given frames (B, C, F, H, W), which must be the first ones. Raises `ValueError` where they are not."""
    reference.check(noise)
    count = int((reference.strength[0] == 0).sum())
    expected = torch.ones_like(reference.strength)
    expected[:, :count] = 0
    if not torch.equal(reference.strength, expected):
        raise ValueError(
            "a causal model continues from first frames: give frames at the start, the same count for all"
        )
    return reference.latents[:, :, :count]
