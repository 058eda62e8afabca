"""DeepSpeed on one process does what a plain loop does, whatever its ZeRO stage; two processes do what one does."""

from contextlib import nullcontext

import pytest
import torch
from torch import nn

from components.errors import UserError
from components.training.loop import seed_of
from components.training.schedule import learning_rate
from tests import two_ranks
from tests.tiny_training import Regression, loop_config, loop_paths, run_tiny

STOP = {"retries": 0}  # at the first broken step


def plain_loop(config) -> dict[str, torch.Tensor]:
    """The same training in nothing but PyTorch; no average."""
    program = Regression()
    module, settings = program.module, config.optimizer
    optimizer = torch.optim.AdamW(
        module.parameters(), betas=settings.betas, eps=settings.eps, weight_decay=settings.weight_decay
    )
    for step in range(config.steps):
        for micro in range(config.accumulation):
            position = step * config.accumulation + micro
            generator = torch.Generator().manual_seed(seed_of(config.seed, position))
            (program.step(module, position, generator).loss / config.accumulation).backward()
        nn.utils.clip_grad_norm_(module.parameters(), settings.clip)
        optimizer.param_groups[0]["lr"] = learning_rate(settings, step, config.steps)
        optimizer.step()
        optimizer.zero_grad()
    return module.state_dict()


@pytest.mark.parametrize("accumulation", [1, 2])
@pytest.mark.parametrize("zero_stage", [0, 1, 2, 3])
def test_the_engine_equals_a_plain_loop(tmp_path, zero_stage, accumulation):
    config = loop_config(steps=10, ema=0.0, zero_stage=zero_stage, accumulation=accumulation)
    expected = plain_loop(config)
    program = Regression()
    run_tiny(tmp_path, config, program)
    for name, value in program.module.state_dict().items():
        torch.testing.assert_close(value, expected[name], rtol=0, atol=1e-5)


@pytest.mark.parametrize("zero_stage", [1, 2, 3])
def test_the_average_is_the_same_at_every_zero_stage(tmp_path, zero_stage):
    plain, sharded = Regression(), Regression()
    run_tiny(tmp_path / "0", loop_config(), plain)
    run_tiny(tmp_path / "z", loop_config(zero_stage=zero_stage), sharded)
    for name, value in plain.module.state_dict().items():
        torch.testing.assert_close(sharded.module.state_dict()[name], value, rtol=0, atol=1e-5)


@pytest.mark.parametrize("broken", [False, True])
def test_zero_3_leaves_no_trace_in_pytorch(tmp_path, broken):
    linear = nn.functional.linear
    program = Regression(lambda _: float("nan") if broken else None)
    with pytest.raises(UserError) if broken else nullcontext():
        run_tiny(tmp_path, loop_config(zero_stage=3, sentinel=STOP), program)
    assert nn.functional.linear is linear


def test_bf16_follows_float32_and_keeps_float32_weights(tmp_path):
    exact, coarse = Regression(), Regression()
    run_tiny(tmp_path / "fp32", loop_config(steps=10), exact)
    run_tiny(tmp_path / "bf16", loop_config(steps=10, precision="bf16"), coarse)
    assert coarse.losses != exact.losses
    assert coarse.losses == pytest.approx(exact.losses, rel=0.03)
    assert {p.dtype for p in coarse.module.parameters()} == {torch.float32}


@pytest.mark.parametrize("zero_stage", [0, 1])
def test_a_loss_that_is_not_finite_stops_the_run_before_the_weights_change(tmp_path, zero_stage):
    program = Regression(lambda position: float("nan") if position == 6 else None)
    with pytest.raises(UserError, match=r"step 7 .* loss nan .*clip-6"):
        run_tiny(tmp_path, loop_config(zero_stage=zero_stage, sentinel=STOP), program)
    assert all(p.isfinite().all() for p in program.module.parameters())


@pytest.mark.parametrize("zero_stage", [0, 1])
def test_a_gradient_that_is_not_finite_stops_the_run_before_the_weights_change(tmp_path, zero_stage):
    class InfiniteGradient(Regression):
        def step(self, module, position, generator):
            result = super().step(module, position, generator)
            if position == 4:
                result.loss.register_hook(lambda gradient: gradient * float("inf"))
            return result

    program = InfiniteGradient()
    with pytest.raises(UserError, match=r"step 5 .* gradient norm (inf|nan).*clip-4"):
        run_tiny(tmp_path, loop_config(zero_stage=zero_stage, sentinel=STOP), program)
    assert all(p.isfinite().all() for p in program.module.parameters())


def test_frozen_weights_stay_and_are_no_parameters_of_the_stage(tmp_path):
    program = Regression()
    program.module[0].requires_grad_(False)
    before = {name: value.clone() for name, value in program.module.state_dict().items()}
    result = run_tiny(tmp_path, loop_config(), program)
    assert result.parameters == 16 * 3 + 3
    changed = {name for name, value in program.module.state_dict().items() if not value.equal(before[name])}
    assert changed == {"2.weight", "2.bias"}


def test_a_stage_with_nothing_to_train_is_refused(tmp_path):
    program = Regression()
    program.module.requires_grad_(False)
    with pytest.raises(UserError, match="no parameter"):
        run_tiny(tmp_path, loop_config(), program)


def test_activation_checkpointing_is_refused_where_the_module_has_none(tmp_path):
    with pytest.raises(UserError, match="activation checkpointing"):
        run_tiny(tmp_path, loop_config(activation_checkpointing=True), Regression())


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory):
    """Folder of runs by two processes, one per ZeRO stage."""
    root = tmp_path_factory.mktemp("two")
    two_ranks.run("tests.tiny_training", root, "0", "1", "2", "3")
    return root


@pytest.mark.parametrize("zero_stage", [0, 1, 2, 3])
def test_two_processes_equal_one_that_accumulates_two_batches(tmp_path, two_processes, zero_stage):
    program = Regression()
    run_tiny(tmp_path, loop_config(accumulation=2), program)
    together = torch.load(two_processes / f"{zero_stage}/weights.pt")
    for name, value in program.module.state_dict().items():
        torch.testing.assert_close(together[name], value, rtol=0, atol=1e-5)
    roots = (tmp_path, two_processes / str(zero_stage))
    curves = [loop_paths(root).output("curve").read_text().split()[1:] for root in roots]
    one, two = ([float(cell) for row in curve for cell in row.split(",")] for curve in curves)
    assert two == pytest.approx(one, rel=1e-4)
