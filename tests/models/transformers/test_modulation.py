"""Modulation against the formulas it is named after."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from models.transformers.initialise import initialise
from models.transformers.kinds import of_kind
from models.transformers.modulation import MODULATIONS, Condition, Modulation

WIDTH, PARTS = 16, 9


def drawn(module: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(3)
    for parameter in module.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator)
    return module


def condition_of(shared: nn.Module, frames: int = 3) -> Condition:
    embedded = torch.randn(2, frames, WIDTH, generator=torch.Generator().manual_seed(1))
    return Condition(embedded, shared(embedded), embedded[:, :1])


def flat(modulations: tuple[Modulation, ...]) -> Tensor:
    """(B, F, P, D)"""
    return torch.stack([part for modulation in modulations for part in modulation], dim=-2)[:, :, 0, 0]


@pytest.mark.parametrize("rank", [1, 4])
def test_adaln_lora_is_the_shared_projection_plus_a_low_rank_term_of_the_embedding(rank: int):
    kind = of_kind(MODULATIONS, {"kind": "lora", "rank": rank}, "modulation")
    shared, block = (drawn(module) for module in (kind.shared(WIDTH, PARTS), kind.block(WIDTH, PARTS, 0)))
    condition = condition_of(shared)
    e = condition.embedded
    a_1 = functional.silu(e) @ shared.projection.weight.T + shared.projection.bias
    expected = a_1 + (e @ block.down.weight.T) @ block.up.weight.T
    torch.testing.assert_close(flat(block(condition)), expected.view(2, 3, PARTS, WIDTH))
    assert block.down.weight.numel() + block.up.weight.numel() == rank * (WIDTH + PARTS * WIDTH)


def test_the_first_block_can_go_without_a_low_rank_term():
    kind = of_kind(MODULATIONS, {"kind": "lora", "first": False}, "modulation")
    shared, first, second = drawn(kind.shared(WIDTH, 6)), kind.block(WIDTH, 6, 0), kind.block(WIDTH, 6, 1)
    condition = condition_of(shared)
    assert torch.equal(flat(first(condition)), condition.shared[:, :, 0, 0])
    assert not list(first.parameters())
    assert list(second.parameters())


def test_separate_adaln_projects_in_every_block():
    kind = of_kind(MODULATIONS, {"kind": "separate"}, "modulation")
    block = drawn(kind.block(WIDTH, 6, 0))
    condition = condition_of(kind.shared(WIDTH, 6))
    linear = block.adaln.projection
    expected = functional.silu(condition.embedded) @ linear.weight.T + linear.bias
    torch.testing.assert_close(flat(block(condition)), expected.view(2, 3, 6, WIDTH))
    assert not list(kind.shared(WIDTH, 6).parameters())


def test_adaln_single_adds_a_table():
    kind = of_kind(MODULATIONS, {"kind": "single"}, "modulation")
    shared, block = drawn(kind.shared(WIDTH, 6)), drawn(kind.block(WIDTH, 6, 0))
    condition = condition_of(shared)
    expected = condition.shared[:, :, 0, 0] + block.table
    torch.testing.assert_close(flat(block(condition)), expected)


def test_a_sublayer_is_shifted_scaled_and_gated_in_that_order_of_the_parts():
    x, update = torch.randn(2, 3, 1, 1, WIDTH), torch.randn(2, 3, 1, 1, WIDTH)
    shift, scale, gate = torch.randn(3, 2, 3, 1, 1, WIDTH)
    modulation = Modulation(shift, scale, gate)
    torch.testing.assert_close(modulation.apply(x), x * (1 + scale) + shift)
    torch.testing.assert_close(modulation.gated(x, update), x + gate * update)


@pytest.mark.parametrize("kind", ["lora", "separate"])
def test_gates_and_the_output_start_closed(kind: str):
    built = of_kind(MODULATIONS, {"kind": kind}, "modulation")
    model = nn.ModuleList([built.shared(WIDTH, 6), built.block(WIDTH, 6, 1), built.final(WIDTH, 8)])
    initialise(model)
    condition = condition_of(model[0])
    assert all(not modulation.gate.any() for modulation in model[1](condition))
    assert not model[2](torch.randn(2, 3, 1, 1, WIDTH), condition).any()


def test_a_kind_that_does_not_exist_is_an_error_that_lists_the_kinds():
    with pytest.raises(ValueError, match="single, lora, separate"):
        of_kind(MODULATIONS, {"kind": "lore"}, "modulation")
    with pytest.raises(ValueError, match="unexpected keyword argument 'ranks'"):
        of_kind(MODULATIONS, {"kind": "lora", "ranks": 2}, "modulation")
