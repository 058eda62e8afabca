"""FlexAttention: the tiles derived from frames are those of PyTorch's own construction, and the result is the mask's.

Run uncompiled, which is the definition of the kernel; speed needs a GPU.
"""

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

from models.transformers.attention import Operands, attend_framewise
from models.transformers.causal import FrameBlocks, FrameMask, frame_mask, teacher_mask
from models.transformers.flex import block_mask, flex
from models.transformers.relative_bias import RelativeBias

pytestmark = pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
CPU = torch.device("cpu")


def clip(blocks: FrameBlocks, frames: int) -> FrameMask:
    return frame_mask(blocks, tuple(range(frames)), tuple(range(frames)))


MASKS = [
    (clip(FrameBlocks(), 5), 60),
    (clip(FrameBlocks(size=3, first=1), 7), 100),
    (clip(FrameBlocks(size=2, local=4, sink=1), 9), 64),
    (teacher_mask(FrameBlocks(size=2), 4), 96),
    (frame_mask(FrameBlocks(size=2), (4, 5), (0, 2, 3, 4, 5)), 70),
]


@pytest.mark.parametrize(("mask", "per_frame"), MASKS)
def test_tiles_from_frames_are_the_tiles_of_the_mask_of_all_pairs(mask: FrameMask, per_frame: int):
    ours = block_mask(mask, per_frame, CPU)
    rows, columns = len(mask) * per_frame, len(mask[0]) * per_frame
    theirs = create_block_mask(ours.mask_mod, None, None, rows, columns, device="cpu")
    assert ours.seq_lengths == theirs.seq_lengths
    assert torch.equal(ours.to_dense(), theirs.to_dense())
    for name in ("kv_num_blocks", "full_kv_num_blocks", "q_num_blocks", "full_q_num_blocks"):
        assert torch.equal(getattr(ours, name), getattr(theirs, name)), name


@pytest.mark.parametrize(("mask", "per_frame"), MASKS)
def test_attention_under_a_mask_of_frames_equals_frames_one_after_the_other(mask: FrameMask, per_frame: int):
    generator = torch.Generator().manual_seed(0)
    rows, columns = len(mask) * per_frame, len(mask[0]) * per_frame
    query = torch.randn(1, rows, 1, 16, generator=generator)
    key, value = torch.randn(2, 1, columns, 1, 16, generator=generator)
    expected = attend_framewise(Operands(query, key, value), per_frame, mask, None)
    ours = flex(query, key, value, mask, per_frame, None, kernel=flex_attention)
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-5)


def test_grids_of_many_sizes_share_few_compiled_kernels():
    graphs = []

    def backend(graph: torch.fx.GraphModule, _inputs: list[torch.Tensor]) -> Any:
        graphs.append(graph)
        return graph.forward

    torch.compiler.reset()
    kernel = torch.compile(flex_attention, fullgraph=True, backend=backend)
    for frames, rows, columns in ((4, 8, 10), (5, 7, 10), (7, 6, 11), (3, 8, 16), (2, 9, 16), (6, 10, 10)):
        cell, bias = (frames, rows, columns), RelativeBias(2, (7, 10, 16))
        x = torch.randn(1, frames * rows * columns, 2, 16)
        mask = clip(FrameBlocks(size=2), frames)
        flex(x, x, x, mask, rows * columns, bias.score_rule(cell), kernel=kernel)
    assert len(graphs) <= 3


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
def test_the_compiled_kernel_equals_frames_one_after_the_other_on_a_gpu(dtype: torch.dtype):
    generator = torch.Generator("cuda").manual_seed(0)
    for frames, per_frame in ((5, 300), (7, 260), (9, 410)):
        shape = (2, frames * per_frame, 2, 64)
        tensors = torch.randn(3, *shape, generator=generator, device="cuda", dtype=dtype).requires_grad_()
        mask, weights = clip(FrameBlocks(size=2), frames), torch.randn(shape, device="cuda", dtype=dtype)
        ours = flex(*tensors, mask, per_frame, None)
        theirs = attend_framewise(Operands(*tensors), per_frame, mask, None)
        torch.testing.assert_close(ours, theirs, atol=2e-2, rtol=2e-2)
        mine, expected = (torch.autograd.grad((out * weights).sum(), tensors)[0] for out in (ours, theirs))
        torch.testing.assert_close(mine, expected, atol=5e-2, rtol=5e-2)


@pytest.mark.parametrize("causal", [False, True])
def test_relative_bias_under_the_rule_equals_the_table_forward_and_backward(causal: bool):
    cell = (3, 4, 5)
    bias = RelativeBias(2, (3, 5, 5))
    nn.init.normal_(bias.table, generator=torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(1)
    query, key, value = torch.randn(3, 2, 60, 2, 16, generator=generator)
    mask = clip(FrameBlocks(), 3) if causal else ((True,) * 3,) * 3
    expected = attend_framewise(Operands(query, key, value), 20, mask, bias(cell))
    ours = flex(query, key, value, mask if causal else None, 20, bias.score_rule(cell), kernel=flex_attention)
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-5)
    weights = torch.randn(ours.shape, generator=generator)
    (mine,) = torch.autograd.grad((ours * weights).sum(), bias.table)
    (theirs,) = torch.autograd.grad((expected * weights).sum(), bias.table)
    torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-4)
