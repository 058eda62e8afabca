"""Video block by block: given frames stay, blocks depend on the past only, any length follows from a short memory."""

import pytest
import torch
from torch import Tensor, nn

from models.diffusion.conditions import Conditions
from models.diffusion.guidance import Guided
from models.diffusion.samplers import sample_euler
from models.diffusion.times import Times
from models.generation.rollout import Rollout
from models.transformers.causal import FrameBlocks
from models.transformers.presets import preset
from models.transformers.video_transformer import VideoTransformer

BLOCKS = FrameBlocks(size=3, first=1)
ROLLOUT = Rollout(blocks=BLOCKS, times=Times(shift=True, base_resolution=32), steps=3)


def tiny() -> VideoTransformer:
    torch.manual_seed(0)
    model = preset("causal-5b-tiny").eval()
    for parameter in model.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.1)
    return model


def guided(model: VideoTransformer, scale: float = 1.0) -> Guided:
    generator = torch.Generator().manual_seed(3)
    text = torch.randn(2, 12, 32, generator=generator)
    rest = {
        "text_mask": torch.ones(2, 12, dtype=torch.bool),
        "fps": torch.tensor([8.0, 24.0]),
        "size": torch.tensor([[64.0, 64.0], [64.0, 64.0]]),
    }
    return Guided(model, Conditions(text=text, **rest), Conditions(text=text * 0, **rest), scale)


def noise(frames: int = 7, seed: int = 0) -> Tensor:
    return torch.randn(2, 48, frames, 4, 4, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("frames", [1, 2, 4, 5], ids=lambda frames: f"{frames} given")
@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_given_frames_are_kept_exactly_and_the_others_are_made(frames: int, scale: float):
    given = noise(frames, seed=1)
    video = ROLLOUT(guided(tiny(), scale), noise(), given)
    assert torch.equal(video[:, :, :frames], given)
    assert (video[:, :, frames:] - noise()[:, :, frames:]).abs().amax(dim=(0, 1, 3, 4)).min() > 1e-3


def test_a_longer_video_begins_as_the_shorter_one():
    model = tiny()
    plain = Rollout(blocks=BLOCKS, times=Times(), steps=3)
    assert torch.equal(plain(guided(model), noise(10))[:, :, :7], plain(guided(model), noise(10)[:, :, :7]))


@torch.no_grad()
def test_the_first_block_is_that_of_the_sampler_alone_and_the_next_continues_it():
    model, video = tiny(), None
    times = Times()
    video = Rollout(blocks=BLOCKS, times=times, steps=3)(guided(model), noise(4))
    bound = guided(model)
    first = sample_euler(bound, noise(4)[:, :, :1], times.schedule(3, bound.conditions.size, latent_frames=4))
    torch.testing.assert_close(video[:, :, :1], first, atol=1e-5, rtol=1e-5)
    again = Rollout(blocks=BLOCKS, times=times, steps=3)(guided(model), noise(4), first)
    torch.testing.assert_close(again, video, atol=1e-5, rtol=1e-5)


def test_a_rolling_memory_makes_a_video_longer_than_it_holds():
    rolling = Rollout(blocks=BLOCKS, times=Times(), steps=2, cached_frames=6, sink=1)
    whole = Rollout(blocks=BLOCKS, times=Times(), steps=2)
    model = tiny()
    long, exact = rolling(guided(model), noise(13)), whole(guided(model), noise(13))
    assert torch.equal(long[:, :, :4], exact[:, :, :4])  # nothing is forgotten yet
    assert long.isfinite().all()
    assert (long[:, :, 7:] - exact[:, :, 7:]).abs().max() > 1e-4


@pytest.mark.parametrize("given", [noise(7), noise(2)[:1], noise(2)[..., :3]], ids=["all", "batch", "width"])
def test_given_frames_that_are_not_a_beginning_are_refused(given: Tensor):
    with pytest.raises(ValueError, match="differ in frames only"):
        ROLLOUT(guided(tiny()), noise(), given)
