"""Teacher forcing: what a block learns depends on its own frames and the clean ones before it, and on nothing later."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from models.diffusion import Conditions, Draw, RectifiedFlow, Times
from models.diffusion.blockwise_flow import BlockwiseFlow
from models.transformers.causal import FrameBlocks
from models.transformers.presets import preset

FRAMES, CHANNELS, BATCH = 7, 48, 2
BLOCKS = FrameBlocks(size=3, first=1)
BLOCK_STARTS = [0, 1, 4]
FLOW = BlockwiseFlow(times=Times(distribution="logit-normal", shift=True, base_resolution=32), blocks=BLOCKS)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    built = preset("causal-5b-tiny").eval()
    for parameter in built.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.1)
    return built


@pytest.fixture(scope="module")
def latents() -> Tensor:
    return torch.randn(BATCH, CHANNELS, FRAMES, 4, 4, generator=seeded(1))


@pytest.fixture(scope="module")
def told() -> Conditions:
    return Conditions(
        text=torch.randn(BATCH, 12, 32, generator=seeded(2)),
        text_mask=torch.ones(BATCH, 12, dtype=torch.bool),
        fps=torch.tensor([8.0, 24.0]),
        size=torch.full((BATCH, 2), 64.0),
    )


def draw_of(latents: Tensor, told: Conditions) -> Draw:
    return FLOW.draw(latents, told.size, seeded(3))


@torch.no_grad()
@pytest.mark.parametrize("frame", range(FRAMES))
def test_a_blocks_loss_does_not_depend_on_later_blocks(model, latents, told, frame):
    """Another video, another noise and another time from a frame on: the blocks before its own learn the same."""
    draw = draw_of(latents, told)
    before = FLOW.errors(model, latents, told, draw)
    noise, times, changed = draw.noise.clone(), draw.times.clone(), latents.clone()
    changed[:, :, frame:] += 1
    noise[:, :, frame:] *= -1
    times[:, frame:] = 999.0
    after = FLOW.errors(model, changed, told, Draw(noise, times))
    start = BLOCKS.bounds(frame)[0]
    assert torch.equal(before[:, :start], after[:, :start])
    assert (before[:, frame:] != after[:, frame:]).all()


@torch.no_grad()
def test_a_block_sees_the_clean_frames_before_it_and_not_their_noise(model, latents, told):
    draw = draw_of(latents, told)
    reference = FLOW.errors(model, latents, told, draw)
    noise = draw.noise.clone()
    noise[:, :, 1:4] *= -1
    assert torch.equal(FLOW.errors(model, latents, told, Draw(noise, draw.times))[:, 4:], reference[:, 4:])
    changed = latents.clone()
    changed[:, :, 1:4] += 1
    assert (FLOW.errors(model, changed, told, draw)[:, 4:] != reference[:, 4:]).all()


def test_every_block_has_a_time_of_its_own(latents, told):
    times = draw_of(latents, told).times
    assert times.shape == (BATCH, FRAMES)
    for start, end in ((0, 1), (1, 4), (4, 7)):
        assert (times[:, start:end] == times[:, start : start + 1]).all()
    assert len(times.unique()) == BATCH * len(BLOCK_STARTS)


def test_times_are_shifted_for_the_length_of_the_whole_clip(latents, told):
    """As at generation, where the schedule of a block is that of the clip: the same draws, shifted by the formula."""
    plain = replace(FLOW, times=replace(FLOW.times, shift=False))
    share = plain.draw(latents, told.size, seeded(3)).times.double() / 1000
    ratio = (64 * 64 / 32**2) ** 0.5 * FRAMES**0.5
    expected = 1000 * ratio * share / (1 + (ratio - 1) * share)
    torch.testing.assert_close(draw_of(latents, told).times.double(), expected, rtol=1e-4, atol=1e-2)


@torch.no_grad()
def test_a_clip_of_one_block_learns_rectified_flow(model, latents, told):
    """With all frames in one block there is nothing before it, and the loss is that of the whole clip."""
    whole = FrameBlocks(size=FRAMES)
    one = preset("causal-5b-tiny", frame_blocks={"size": FRAMES}).eval()
    one.load_state_dict(model.state_dict())
    draw = Draw(draw_of(latents, told).noise, torch.tensor([300.0, 800.0]))
    ours = BlockwiseFlow(times=FLOW.times, blocks=whole).loss(one, latents, told, draw)
    theirs = RectifiedFlow(FLOW.times).loss(one, latents, told, draw)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_the_target_is_the_velocity_from_noise_to_data(latents, told):
    """A model that answers x_0 - noise has no error, and one that answers 0 has its mean square."""
    draw = draw_of(latents, told)
    velocity = latents - draw.noise

    def perfect(both: Tensor, *_args: Tensor, **_more: object) -> Tensor:
        return torch.cat((torch.zeros_like(velocity), velocity), dim=2)

    def silent(both: Tensor, *_args: Tensor, **_more: object) -> Tensor:
        return torch.zeros_like(both)

    assert FLOW.loss(perfect, latents, told, draw).abs().max() == 0
    torch.testing.assert_close(
        FLOW.loss(silent, latents, told, draw), velocity.square().mean(dim=(1, 2, 3, 4))
    )


def test_the_model_is_shown_clean_frames_at_time_0_and_noisy_ones_at_theirs(latents, told):
    draw = draw_of(latents, told)
    seen: list[tuple[Tensor, Tensor]] = []

    def watching(both: Tensor, times: Tensor, *_args: Tensor, **_more: object) -> Tensor:
        seen.append((both, times))
        return torch.zeros_like(both)

    FLOW.loss(watching, latents, told, draw)
    both, times = seen[0]
    assert torch.equal(both[:, :, :FRAMES], latents)
    assert torch.equal(times, torch.cat((torch.zeros_like(draw.times), draw.times), dim=1))
    share = (draw.times / 1000)[:, None, :, None, None]
    torch.testing.assert_close(both[:, :, FRAMES:], (1 - share) * latents + share * draw.noise)


@torch.no_grad()
def test_frames_of_one_time_are_as_if_the_clip_had_it(model, latents, told):
    """A time per frame (B, T) and a time per sample (B,) mean the same where they are equal."""
    arguments = (told.text, told.text_mask)
    rest = {"fps": told.fps, "size": told.size}
    single = torch.tensor([200.0, 700.0])
    per_frame = model(latents, single[:, None].expand(-1, FRAMES), *arguments, **rest)
    torch.testing.assert_close(per_frame, model(latents, single, *arguments, **rest), rtol=1e-5, atol=1e-6)
    mask = torch.arange(FRAMES) >= torch.tensor([[2], [5]])
    masked = model(latents, single[:, None].expand(-1, FRAMES), *arguments, frame_mask=mask, **rest)
    theirs = model(latents, single, *arguments, frame_mask=mask, **rest)
    shown = mask[:, None, :, None, None]
    torch.testing.assert_close(
        torch.where(shown, masked, 0), torch.where(shown, theirs, 0), rtol=1e-5, atol=1e-6
    )
