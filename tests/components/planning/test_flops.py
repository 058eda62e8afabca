"""FLOPs counted on the meta device against the arithmetic of a transformer, written down here by hand."""

import itertools
import math

import pytest
import torch
from torch import nn

from components.planning.flops import count_flops, meta_twin, on_meta
from models.transformers.causal import FrameBlocks
from models.transformers.presets import PRESETS, preset
from models.transformers.video_transformer import VideoTransformer

LENGTH = 300
BOTH_PASSES = 3  # a product of matrices has two in its backward pass


def captioned(model: VideoTransformer, frames: int, height: int, width: int, batch: int = 1) -> int:
    """FLOPs of a step on latents of that size."""
    config = model.config
    arguments = on_meta(
        {
            "latents": torch.zeros(batch, config.in_channels, frames, height, width),
            "timestep": torch.zeros(batch),
            "text": torch.zeros(batch, LENGTH, config.caption_channels),
            "text_mask": torch.ones(batch, LENGTH),
            "fps": torch.zeros(batch),
            "size": torch.zeros(batch, 2),
        }
    )
    return count_flops(model, lambda twin: twin(**arguments))


def on_meta_device(name: str, **changes: object) -> VideoTransformer:
    with torch.device("meta"):
        return preset(name, **changes)


def per_block(width: int, hidden: int, tokens: int, pairs: float) -> float:
    """Forward FLOPs of a block with cross-attention: 12 width^2 in projections at hidden = 4 width, and attention.

    `pairs`: how many (query, key) pairs its self-attention looks at.
    """
    projections = 2 * tokens * (4 * width**2 + 2 * width**2 + 2 * width * hidden) + 2 * LENGTH * 2 * width**2
    return projections + 4 * width * (pairs + tokens * LENGTH)


@pytest.mark.parametrize(
    ("depth", "frames", "height", "width"), [(2, 1, 64, 64), (2, 15, 30, 53), (28, 30, 90, 160)]
)
def test_stdit3_costs_what_its_formula_says(depth: int, frames: int, height: int, width: int) -> None:
    model = on_meta_device("stdit3-xl-2", depth=depth)
    space, hidden = math.ceil(height / 2) * math.ceil(width / 2), 4 * 1152
    tokens = frames * space
    spatial = per_block(1152, hidden, tokens, tokens * space)
    temporal = per_block(1152, hidden, tokens, tokens * frames)
    ends = 2 * tokens * 1152 * (4 * 4 + 8 * 4) + 2 * LENGTH * (4096 * 1152 + 1152**2)
    formula = BOTH_PASSES * (depth * (spatial + temporal) + ends)
    assert captioned(model, frames, height, width) == pytest.approx(formula, rel=0.01)


def test_shifted_windows_cost_the_pairs_inside_them() -> None:
    model = on_meta_device("hdvila-flat")
    # tokens of the published resolution; windows of 8 x 8 and of 8 x 4 x 4, some shifted
    frames, side = (16, 32)
    tokens = frames * side * side

    def pairs(length: int, window: int, shift: int) -> int:
        edges = [*range(shift, length, window)]
        bounds = [0, *edges, length] if shift else [*edges, length]
        return sum((end - start) ** 2 for start, end in itertools.pairwise(bounds))

    forward = 0.0
    for shift in (0, 1):
        spatial = frames * pairs(side, 8, 4 * shift) ** 2
        temporal = pairs(frames, 8, 4 * shift) * pairs(side, 4, 2 * shift) ** 2
        forward += 6 * sum(per_block(1024, 4096, tokens, each) for each in (spatial, temporal))
    assert captioned(model, 16, 64, 64) == pytest.approx(BOTH_PASSES * forward, rel=0.01)


def test_a_causal_mask_of_frames_costs_only_what_is_seen() -> None:
    model = on_meta_device("causal-5b")
    frames, per_frame = 31, 22 * 40
    blocks = FrameBlocks(size=3, first=1)
    seen = sum(blocks.sees(one, other) for one in range(frames) for other in range(frames))
    forward = 30 * per_block(3072, 14_336, frames * per_frame, seen * per_frame**2)
    assert captioned(model, 31, 44, 80) == pytest.approx(BOTH_PASSES * forward, rel=0.01)


def test_a_batch_costs_as_many_times_what_one_sample_does() -> None:
    model = on_meta_device("stdit3-xl-2-tiny", caption_channels=32)
    assert captioned(model, 5, 16, 16, batch=7) == 7 * captioned(model, 5, 16, 16)


def test_activation_checkpointing_is_not_counted_and_frozen_parts_have_no_backward_pass() -> None:
    model = on_meta_device("stdit3-xl-2-tiny", caption_channels=32)
    plain = captioned(model, 5, 16, 16)
    model.enable_gradient_checkpointing()
    assert captioned(model, 5, 16, 16) == plain
    assert model.gradient_checkpointing
    assert captioned(model.requires_grad_(False), 5, 16, 16) == pytest.approx(plain / BOTH_PASSES, rel=0.01)


def test_a_convolution_costs_its_kernel_at_every_place() -> None:
    layer = nn.Conv3d(8, 16, 3, padding=1)
    forward = 2 * 16 * 8 * 27 * (4 * 6 * 6)
    clip = on_meta(torch.zeros(1, 8, 4, 6, 6))
    assert count_flops(layer, lambda twin: twin(clip)) == 2 * forward  # no gradient of the clip is needed
    with torch.no_grad():
        assert count_flops(layer, lambda twin: twin(clip)) == forward


def test_the_twin_has_no_memory_and_leaves_the_module_as_it_was() -> None:
    model = VideoTransformer(**PRESETS["stdit3-xl-2-tiny"].config)
    model.final.requires_grad_(False)
    twin = meta_twin(model)
    mine, theirs = dict(model.named_parameters()), dict(twin.named_parameters())
    assert mine.keys() == theirs.keys()
    for name, parameter in mine.items():
        assert (theirs[name].shape, theirs[name].requires_grad) == (parameter.shape, parameter.requires_grad)
        assert theirs[name].is_meta
        assert not parameter.is_meta
    assert all(buffer.is_meta for buffer in twin.buffers())
