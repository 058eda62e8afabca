"""FLOPs and tokens of a step against hand counts; peaks by the names that drivers give."""

import math

import pytest
import torch
from torch import nn

from components.training import work as work_module
from components.training.pace import Pace, Speed
from components.training.work import WorkMeter, peak_of
from tests.tiny_parts import tiny_transformer
from tests.tiny_training import Regression, loop_config, run_tiny


@pytest.fixture(autouse=True)
def _at_once(monkeypatch):
    """Count without waiting until it costs little."""
    monkeypatch.setattr(work_module, "SHARE", 1e9)


def test_flops_of_a_step_are_those_of_its_matrix_products():
    module = nn.Sequential(nn.Linear(6, 16), nn.GELU(), nn.Linear(16, 3))
    meter = WorkMeter(module)
    for rows in (8, 8, 5):
        module(torch.randn(rows, 6)).sum().backward()
    forward = 2 * (6 * 16 + 16 * 3)
    by_weights, by_inputs = forward, 2 * 16 * 3  # no gradient goes to the data
    assert meter.take().flops == 21 * (forward + by_weights + by_inputs)
    assert meter.take().flops == 0


def test_a_pass_without_gradients_counts_once():
    module = nn.Linear(6, 16)
    meter = WorkMeter(module)
    with torch.no_grad():
        module(torch.randn(4, 6))
    assert meter.take().flops == 2 * 4 * 6 * 16


def test_tokens_are_those_that_enter_the_first_block():
    model = tiny_transformer()
    meter = WorkMeter(model)
    channels, caption = model.config.in_channels, model.config.caption_channels
    patch = model.patch[1] * model.patch[2]
    text = torch.randn(3, 5, caption), torch.ones(3, 5)
    size = torch.full((3, 2), 16.0)
    model(
        torch.randn(3, channels, 2, 8, 4), torch.rand(3), *text, fps=torch.ones(3), size=size
    ).sum().backward()
    work = meter.take()
    assert work.tokens == 3 * 2 * 8 * 4 // patch
    assert work.flops > 6 * work.tokens * sum(
        p.numel() for block in model.blocks() for p in block.feed_forward.parameters()
    )


def test_counting_draws_no_number_of_the_run():
    class Noisy(nn.Linear):
        def forward(self, x, generator):
            return super().forward(x + torch.randn(x.shape, generator=generator) + torch.randn(x.shape))

    states = []
    for counted in (False, True):
        module, generator = Noisy(4, 4), torch.Generator().manual_seed(1)
        torch.manual_seed(2)
        if counted:
            WorkMeter(module)
        module(torch.zeros(2, 4), generator)
        states.append((generator.get_state(), torch.get_rng_state()))
    assert torch.equal(states[0][0], states[1][0])
    assert torch.equal(states[0][1], states[1][1])


def test_the_log_line_names_speed_arithmetic_data_and_memory(tmp_path, caplog):
    caplog.set_level("INFO")
    run_tiny(tmp_path, loop_config(), Regression())
    line = next(message for message in caplog.messages if message.startswith("step 4/12"))
    for unit in ("steps/s", "data ", "TFLOP/s", " GB", "eta "):
        assert unit in line


def test_counting_waits_until_it_is_a_small_share_of_the_run(monkeypatch):
    monkeypatch.setattr(work_module, "SHARE", 1e-9)
    module = nn.Linear(6, 16)
    meter = WorkMeter(module)
    module(torch.randn(4, 6)).sum().backward()
    work = meter.take()
    assert math.isnan(work.flops)
    line = Speed(Pace(1.0, 0.0), work.flops, work.tokens, peak=1e12)
    assert "FLOP" not in line.text()
    assert line.mfu is None
    assert not {"perf/tflops", "perf/mfu", "perf/tokens_per_sec"} & line.metrics().keys()


def test_mfu_is_model_flops_over_the_peak():
    speed = Speed(Pace(2.0, 0.5), flops=1e15, tokens=8000, peak=1e15)
    assert speed.mfu == pytest.approx(0.5)
    assert speed.metrics()["perf/tokens_per_sec"] == 4000
    assert "50% MFU" in speed.text()
    assert "data 25%" in speed.text()


@pytest.mark.parametrize(
    ("name", "tera"),
    [
        ("NVIDIA H100 80GB HBM3", 989.4),
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA H200", 989.4),
        ("NVIDIA A100-SXM4-80GB", 312),
        ("NVIDIA A100-PCIE-40GB", 312),
        ("NVIDIA GeForce RTX 4090", 165),
        ("NVIDIA L40S", 362),
        ("NVIDIA Unheard Of", None),
    ],
)
def test_the_peak_goes_by_the_drivers_name(name, tera):
    assert peak_of(name, bf16=True) == (tera and tera * 1e12)
