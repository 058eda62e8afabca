"""Adafactor is the published one, and a run with it can be cut and moved like any other."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn

from components.training.config import OptimizerConfig
from components.training.optimizers import KEPT, kept_elements, kept_of, make_optimizer
from tests.forked_training import Job, ids_by_position, losses_by_step, start, weights
from tests.tiny_training import Regression, loop_config, loop_paths, run_tiny

PLAIN = {"name": "adafactor", "lr": 1e-2, "betas": (0.0, 0.99)}
WITH_MOMENTUM = {**PLAIN, "betas": (0.9, 0.99), "weight_decay": 0.01}


def test_a_matrix_moves_by_the_published_update():
    """Algorithm 4 of arXiv 1804.04235: row and column means of squares, clipped by the root mean square."""
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(5, 3))
    parameter = nn.Parameter(torch.tensor(weight))
    optimizer = make_optimizer(OptimizerConfig(**PLAIN), [parameter], lr=1e-2)
    rows, columns = np.zeros(5), np.zeros(3)
    for step in range(1, 6):
        gradient = rng.normal(size=(5, 3))
        parameter.grad = torch.tensor(gradient)
        optimizer.step()
        decay = 1 - step**-0.8
        squares = gradient**2 + 1e-30
        rows = decay * rows + (1 - decay) * squares.sum(axis=1)
        columns = decay * columns + (1 - decay) * squares.sum(axis=0)
        update = gradient / np.sqrt(np.outer(rows, columns) / rows.sum())
        weight = weight - 1e-2 * update / max(1.0, np.sqrt((update**2).mean()))
        np.testing.assert_allclose(parameter.detach().numpy(), weight, rtol=1e-6)


@pytest.mark.parametrize("settings", [PLAIN, WITH_MOMENTUM, {"lr": 1e-2}], ids=["plain", "momentum", "adamw"])
def test_what_is_kept_is_what_is_counted_and_made_ahead(settings):
    config = OptimizerConfig(**settings)
    shapes = [(7,), (5, 3), (4, 2, 3, 3)]
    parameters = [nn.Parameter(torch.randn(shape)) for shape in shapes]
    optimizer = make_optimizer(config, parameters, lr=1e-2)
    ahead = [kept_of(optimizer, parameter) for parameter in parameters]
    for parameter in parameters:
        parameter.grad = torch.randn(parameter.shape)
    optimizer.step()
    found = 0
    for parameter, made in zip(parameters, ahead, strict=True):
        kept = {kind: value for kind, value in optimizer.state[parameter].items() if kind in KEPT}
        assert {k: v.shape for k, v in kept.items()} == {k: v.shape for k, v in made.items()}
        found += sum(value.numel() for value in kept.values())
    assert kept_elements(config, shapes) == found


@pytest.mark.parametrize("settings", [PLAIN, WITH_MOMENTUM], ids=["plain", "momentum"])
def test_a_run_with_adafactor_that_died_ends_as_the_one_that_did_not(tmp_path, settings):
    def die(position: int) -> None:
        if position == 9:
            raise RuntimeError("power cut")

    config = loop_config(optimizer=OptimizerConfig(**settings))
    straight, resumed = Regression(), Regression()
    run_tiny(tmp_path / "straight", config, straight)
    with pytest.raises(RuntimeError, match="power cut"):
        run_tiny(tmp_path / "cut", config, Regression(die))
    assert run_tiny(tmp_path / "cut", config, resumed).resumed_at == 5
    for name, value in straight.module.state_dict().items():
        assert torch.equal(resumed.module.state_dict()[name], value)
    curves = [loop_paths(tmp_path / run).output("curve").read_bytes() for run in ("straight", "cut")]
    assert curves[0] == curves[1]


@pytest.mark.parametrize("settings", [PLAIN, WITH_MOMENTUM], ids=["plain", "momentum"])
def test_adafactor_learns(tmp_path, settings):
    config = loop_config(
        optimizer=OptimizerConfig(**settings), steps=200, log_steps=50, checkpoint_steps=1000
    )
    result = run_tiny(tmp_path, config, Regression())
    assert result.last.loss < 0.5 * result.first.loss


def test_a_run_with_adafactor_goes_on_with_other_processes(tmp_path):
    config = {"steps": 16, "checkpoint_steps": 4, "log_steps": 1, "optimizer": PLAIN}
    alone = {**config, "accumulation": 2}
    jobs = [
        Job(str(tmp_path / "straight"), 2, config),
        Job(str(tmp_path / "moved"), 2, config, kill_after=6),
        Job(str(tmp_path / "moved"), 1, alone, kill_after=20),
        Job(str(tmp_path / "moved"), 2, config),
    ]
    assert start(tmp_path, jobs) == [0, -9, -9, 0]
    straight, moved = tmp_path / "straight", tmp_path / "moved"
    assert ids_by_position(moved) == ids_by_position(straight)
    assert losses_by_step(moved, 2) == pytest.approx(losses_by_step(straight, 2), rel=0, abs=1e-5)
    torch.testing.assert_close(weights(moved), weights(straight), rtol=0, atol=1e-5)


@pytest.mark.parametrize("zero_stage", [1, 2, 3])
def test_stages_that_cut_matrices_are_refused(zero_stage):
    with pytest.raises(ValidationError, match=f"zero_stage {zero_stage} cuts matrices"):
        loop_config(optimizer=OptimizerConfig(**PLAIN), zero_stage=zero_stage)
