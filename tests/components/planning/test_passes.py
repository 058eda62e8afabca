"""Memory and FLOPs of a step on the meta device, against what the same step keeps and takes when it really runs."""

import os
import subprocess
import sys
from dataclasses import asdict

import pytest
import torch
from torch import nn

from components.planning.passes import Pass, run_pass
from components.planning.steps import How, Sample, arguments, build, step_of
from models.transformers.presets import PRESETS

SMALL = {
    "in_channels": 4,
    "out_channels": 4,
    "depth": 5,
    "heads": 4,
    "head_width": 16,
    "caption_channels": 32,
    "max_text_tokens": 12,
}
SAMPLE = Sample(3, (4, 5, 12, 14), masked=True)
PEAK_TOLERANCE = 0.15  # of a CPU process, whose allocator and libraries have buffers of their own


def whole(config: dict[str, object], sample: Sample, how: How) -> Pass:
    """The step without extending anything."""
    model = build(config)
    if how.recompute:
        model.enable_gradient_checkpointing()
    given = arguments(model, sample)
    return run_pass(model, lambda: model(**given), bf16=how.bf16)


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("bf16", [False, True])
def test_two_depths_tell_what_all_layers_need(bf16: bool, recompute: bool) -> None:
    how = How(bf16, recompute)
    told, run = asdict(step_of(SMALL, SAMPLE, how)), asdict(whole(SMALL, SAMPLE, how))
    assert told["flops"] == run["flops"]
    assert told["recomputed"] == run["recomputed"]
    for name in ("kept", "copies", "forward_peak", "backward_peak"):
        assert told[name] == pytest.approx(run[name], rel=0.03)


@pytest.mark.parametrize(
    "name", ["hdvila-flat-tiny", "hdvila-hourglass-tiny", "walt-t2v-l-tiny", "causal-5b-tiny"]
)
def test_patterns_that_take_turns_and_levels_are_followed(name: str) -> None:
    config = {**PRESETS[name].config, "caption_channels": 32}
    if config["depth"] == 2:
        config["depth"] = 6
    channels, frames, height, width = PRESETS[name].latent
    sample = Sample(24, (channels, frames, height, width))
    told, run = step_of(config, sample, How(recompute=True)), whole(config, sample, How(recompute=True))
    assert told.flops == run.flops
    assert told.peak == pytest.approx(run.peak, rel=0.03)


def test_checkpointing_repeats_the_forward_pass_of_the_blocks_and_keeps_their_inputs_only() -> None:
    plain, again = (step_of(SMALL, SAMPLE, How(bf16=False, recompute=each)) for each in (False, True))
    assert (plain.recomputed, again.flops) == (0, plain.flops)
    assert again.recomputed == pytest.approx(plain.flops / 3, rel=0.05)
    assert again.peak < plain.peak / 3
    deeper = step_of({**SMALL, "depth": 9}, SAMPLE, How(bf16=False, recompute=True))
    tokens, width = SAMPLE.batch * 5 * 6 * 7, 64
    # 2 blocks a layer, float32
    assert deeper.kept - again.kept == pytest.approx(4 * 2 * tokens * width * 4, rel=0.02)


def test_autocast_keeps_a_copy_of_every_weight_that_multiplies() -> None:
    model = build(SMALL)
    multiplies = (nn.Linear, nn.Conv3d)
    weights = sum(
        part.weight.numel() + part.bias.numel() for part in model.modules() if isinstance(part, multiplies)
    )
    assert step_of(SMALL, SAMPLE, How(bf16=True)).copies == pytest.approx(2 * weights, rel=0.01)
    assert step_of(SMALL, SAMPLE, How(bf16=False)).copies == 0


def test_what_is_kept_is_what_autograd_saves() -> None:
    """The oracle: distinct storages that a real forward pass hands to the backward pass, the module's own left out."""
    model = build(SMALL).to_empty(device="cpu")
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.02)
    real = {
        name: torch.randn(value.shape)
        if value.is_floating_point()
        else torch.ones(value.shape, dtype=value.dtype)
        for name, value in arguments(build(SMALL), SAMPLE).items()
    }
    real["text_mask"] = torch.ones_like(real["text_mask"])
    own = {
        value.untyped_storage().data_ptr()
        for value in (*model.parameters(), *model.buffers(), *real.values())
    }
    saved: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        out = model(**real)  # alive, so that no address comes twice
    assert out.shape == (3, 4, 5, 12, 14)
    assert step_of(SMALL, SAMPLE, How(bf16=False)).kept == pytest.approx(sum(saved.values()), rel=0.05)


MEASURED = """
import os
import sys
import torch
from components.planning.steps import Sample, arguments, build
torch.set_num_threads(1)
config = {"in_channels": 4, "out_channels": 4, "depth": 3, "heads": 4, "head_width": 32, "caption_channels": 32,
          "max_text_tokens": 12}
def high_water():
    # kilobytes of this process alone, which `ru_maxrss` is not after a fork
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
def run(model, sample):
    given = arguments(build(config), sample)
    given = {name: torch.ones(value.shape, dtype=value.dtype) for name, value in given.items()}
    model(**given).sum().backward()
    model.zero_grad(set_to_none=True)
def peak(how):
    model = build(config).to_empty(device="cpu")
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.02)
    if how == "recompute":
        model.enable_gradient_checkpointing()
    run(model, Sample(1, (4, 2, 8, 8)))  # libraries have their buffers now
    before = high_water()
    run(model, Sample(4, (4, 9, 32, 32)))
    return 1024 * (high_water() - before)
for how in sys.argv[1:]:  # each in a process of its own, which has imported everything
    if not os.fork():
        print(peak(how), flush=True)
        os._exit(0)
    os.wait()
"""
WAYS = ("plain", "recompute")


@pytest.fixture(scope="module")
def peaks() -> dict[str, int]:
    """Bytes that a real step needs at most."""
    at_once = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}  # freed memory goes back to the system
    command = [sys.executable, "-c", MEASURED, *WAYS]
    run = subprocess.run(command, capture_output=True, text=True, check=True, env=at_once)
    return dict(zip(WAYS, map(int, run.stdout.split()), strict=True))


@pytest.mark.parametrize("how", WAYS)
def test_the_peak_is_that_of_a_process(how: str, peaks: dict[str, int]) -> None:
    config = {**SMALL, "depth": 3, "head_width": 32}
    predicted = step_of(config, Sample(4, (4, 9, 32, 32)), How(bf16=False, recompute=how == "recompute")).peak
    assert predicted > 60e6  # else the process itself would be most of it
    assert predicted == pytest.approx(peaks[how], rel=PEAK_TOLERANCE)
