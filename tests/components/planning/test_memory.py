"""ZeRO's arithmetic against the paper's, and against what DeepSpeed really holds."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from components.planning.memory import BUCKET, CONTEXT, Setting, checkpoint_bytes, memory_of
from components.planning.passes import Pass
from components.training.ema import Ema
from components.training.engine import Engine
from components.training.shards import Shards
from tests.tiny_training import loop_config

NOTHING = Pass(0, 0, 0, 0, 0, 0, 0)
BILLIONS = Setting(
    trained=7_500_000_000, frozen=0, averages=0, zero_stage=0, gpus=64, bf16=False, recompute=False
)


def states(stage: int, **changes: object) -> float:
    """Gigabytes of states, without the buffers that the paper does not count."""
    memory = memory_of(replace(BILLIONS, zero_stage=stage, **changes), NOTHING)
    buffers = BUCKET * 4 if stage else 0
    return (memory.states - buffers) / 1e9


def test_the_example_of_the_paper_holds_in_float32() -> None:
    """Figure 1 divides 2, 2 and 12 bytes a parameter; here they are 4, 4 and 8, 7.5 B parameters and 64 GPUs alike."""
    parameters, share = 7.5, 7.5 / 64
    assert states(0) == pytest.approx(parameters * 16)  # 120 GB, as in the paper
    own_copy = 4 * share  # of DeepSpeed's stages 1 and 2
    assert states(1) == pytest.approx(parameters * 8 + share * 8 + own_copy)
    assert states(2) == pytest.approx(parameters * 4 + share * 12 + own_copy)
    gathered = 4 * 1.05
    assert states(3) == pytest.approx(share * 16 + gathered)


def test_more_sharding_never_needs_more_where_there_are_many_gpus() -> None:
    totals = [states(stage) for stage in range(4)]
    assert totals == sorted(totals, reverse=True)


def test_averages_and_frozen_weights_add_four_bytes_each() -> None:
    assert states(0, averages=2) - states(0) == pytest.approx(2 * 4 * 7.5 / 64)
    assert states(2, averages=1) - states(2) == pytest.approx(4 * 7.5 / 64)
    assert states(2, frozen=10**9) - states(2) == pytest.approx(4)


def test_without_zero_a_process_averages_its_part_of_the_weights_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module = Line()
    engine = Engine(module, loop_config(steps=1))
    try:
        monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 4)
        own = Shards(list(module.named_parameters()), engine.shards.driven, engine.module)
        held = sum(value.nbytes for value in Ema(own.weights(), (0.9, 0.99)).weights.values())
    finally:
        monkeypatch.undo()
        engine.close()
    asked = Setting(trained=24, frozen=0, averages=1, zero_stage=0, gpus=4, bf16=False, recompute=False)
    assert held == memory_of(asked, NOTHING).ema == 24


def test_activations_come_with_a_reserve() -> None:
    step = Pass(0, 0, 0, kept=60, copies=20, forward_peak=1000, backward_peak=900)
    memory = memory_of(BILLIONS, step)
    assert (memory.activations, memory.reserve) == (1000, CONTEXT + 50)
    sharded = memory_of(replace(BILLIONS, zero_stage=3, bf16=True), step)
    assert sharded.activations == 980  # parameters come in bf16, so they need no copies


class Line(nn.Module):
    """One layer of 24 parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(5, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.layer(x)
        return out


@pytest.mark.parametrize("stage", [1, 2])
def test_deepspeed_holds_a_copy_of_its_share_of_the_weights(stage: int) -> None:
    module = Line()
    engine = Engine(module, loop_config(steps=1, zero_stage=stage))
    try:
        optimizer = engine.module.optimizer
        own = optimizer.single_partition_of_fp32_groups
        addresses = {parameter.data_ptr() for parameter in module.parameters()}
        assert sum(group.numel() for group in own) >= 24
        assert not addresses & {group.data_ptr() for group in own}
        assert optimizer.reduce_bucket_size == BUCKET
    finally:
        engine.close()


def test_a_checkpoint_is_weights_moments_and_averages() -> None:
    adam = Setting(trained=100, frozen=7, averages=2, zero_stage=0, gpus=4, bf16=True, recompute=False)
    assert checkpoint_bytes(adam) == 100 * 4 * (1 + 2 + 2)
    assert checkpoint_bytes(replace(adam, kept=25)) == 4 * (100 * (1 + 2) + 25)
