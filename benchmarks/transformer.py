"""Our transformers against public ones of equal width and number of blocks, in one run.

    python benchmarks/transformer.py [--quick] [--only walt-xl] [--rounds 5]

Every model is a preset made small: the parts, windows and grid of the published one, fewer and narrower blocks. The
peer is a diffusers model through which the same number of tokens goes (`benchmarks/peers.py`). Ours and the peer are
timed in turns; the time is the median, the ratio is ours over the peer's, below 1 is faster. Memory is what the forward
pass keeps for the backward pass; on a GPU the peak above the weights. Where there is a GPU, computing is in bfloat16,
and STDiT3-XL/2 is run whole at 51 frames of 240x426 for its share of the GPU's peak (MFU), checkpointing off.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

REPOSITORY = Path(__file__).parents[1]
sys.path.insert(0, str(REPOSITORY))

from benchmarks.peers import PEERS, blocks_of  # noqa: E402
from models.transformers.presets import PRESETS, preset  # noqa: E402

Config = Mapping[str, Any]
Latent = tuple[int, int, int, int]
MEDIUM: Config = {"heads": 6, "head_width": 64, "caption_channels": 512, "max_text_tokens": 64}
WIDE: Config = {"heads": 16, "head_width": 72}  # for a GPU
PEAK_TFLOPS = {"H200": 989, "H100": 989, "A100": 312, "L40S": 362, "4090": 165}  # bfloat16, dense


class Case(NamedTuple):
    """A preset, its peer, and how it is made small."""

    peer: str
    latent: Latent
    changes: Config


CASES: Mapping[str, Case] = {
    "stdit3-xl-2": Case("PixArt", (4, 8, 32, 32), {"depth": 2}),
    "pixart-sigma-xl-2": Case("PixArt", (4, 1, 64, 64), {"depth": 4}),
    "walt-xl": Case("DiT", (25, 5, 16, 16), {"depth": 2}),
    "walt-l-separate": Case("DiT", (25, 5, 16, 16), {"depth": 2}),
    "walt-imagenet-l": Case("DiT", (16, 1, 32, 32), {"depth": 2}),
    "walt-t2v-l": Case("CogVideoX", (25, 5, 16, 16), {"depth": 2}),
    "walt-sr-2x": Case("CogVideoX", (25, 5, 32, 56), {"depth": 2}),
    "walt-sr-2x2x": Case("CogVideoX", (25, 5, 64, 112), {"depth": 2}),
    "hdvila-flat": Case("PixArt", (4, 8, 32, 32), {"depth": 2}),
    "hdvila-hourglass": Case("PixArt", (4, 8, 32, 32), {"depth": [1, 2, 1]}),
    "causal-5b": Case(
        "LTX",
        (48, 7, 16, 16),
        {"depth": 4, "mlp_width": 1536, "rope": {"kind": "axes", "channels": [24, 20, 20]}},
    ),
}


class Timed(NamedTuple):
    """A model with a call, and what was measured of it."""

    model: nn.Module
    call: Callable[[], Tensor]
    parameters: int


def ours(name: str, case: Case, device: torch.device, dtype: torch.dtype, changes: Config) -> Timed:
    model = moved(preset(name, **changes), device, dtype)
    latents = torch.randn(1, *case.latent, device=device, dtype=dtype)
    inputs = inputs_of(model.config, latents)
    return Timed(model, lambda: model(latents, **inputs), size_of(model))


def inputs_of(config: Config, latents: Tensor) -> dict[str, Tensor]:
    """What one of our models reads beside the latents."""
    batch, _, frames, rows, columns = latents.shape
    device = latents.device
    inputs = {
        "timestep": torch.full((batch,), 500.0, device=device),
        "fps": torch.full((batch,), 24.0, device=device),
        "size": torch.tensor([[8.0 * rows, 8.0 * columns]] * batch, device=device),
    }
    if config["text"]["kind"] == "none":
        inputs["label"] = torch.zeros(batch, dtype=torch.int64, device=device)
    else:
        tokens = config["max_text_tokens"]
        inputs["text"] = torch.randn(batch, tokens, config["caption_channels"]).to(latents)
        inputs["text_mask"] = torch.ones(batch, tokens, device=device)
    if channels := config["low_resolution_channels"]:
        inputs["low_resolution"] = torch.randn(batch, channels, frames, rows // 2, columns // 2).to(latents)
        inputs["t_sr"] = torch.full((batch,), 100.0, device=device)
    return inputs


def peer_of(case: Case, config: Config, device: torch.device, dtype: torch.dtype) -> Timed:
    latents = torch.randn(1, *case.latent, device=device, dtype=dtype)
    model, inputs = PEERS[case.peer](config, latents)
    model = moved(model, device, dtype)
    return Timed(model, lambda: model(**inputs, return_dict=False)[0], size_of(model))


def moved(model: nn.Module, device: torch.device, dtype: torch.dtype) -> nn.Module:
    """The model on its device; diffusers' own `to` warns of an empty list."""
    return nn.Module.to(model, device, dtype)


def size_of(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def seconds(work: Callable[[], object], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    started = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def forward(timed: Timed) -> Callable[[], object]:
    def work() -> None:
        with torch.no_grad():
            timed.call()

    return work


def both_ways(timed: Timed) -> Callable[[], object]:
    def work() -> None:
        timed.model.zero_grad(set_to_none=True)
        timed.call().float().square().mean().backward()

    return work


def kept_megabytes(timed: Timed, device: torch.device) -> float:
    """Memory of one training pass beyond the weights: the peak on a GPU, else what is kept for the backward pass."""
    timed.model.zero_grad(set_to_none=True)
    if device.type == "cuda":
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        both_ways(timed)()
        timed.model.zero_grad(set_to_none=True)
        return (torch.cuda.max_memory_allocated() - before) / 1e6
    kept: dict[int, int] = {
        parameter.untyped_storage().data_ptr(): 0 for parameter in timed.model.parameters()
    }

    def keep(tensor: Tensor) -> Tensor:
        kept.setdefault(tensor.untyped_storage().data_ptr(), tensor.untyped_storage().nbytes())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = timed.call()
    del output
    return sum(kept.values()) / 1e6


def compare(
    name: str, case: Case, device: torch.device, dtype: torch.dtype, options: argparse.Namespace
) -> None:
    changes = {**MEDIUM, **(WIDE if device.type == "cuda" else {}), **case.changes}
    if options.quick:
        changes = {**PRESETS[f"{name}-tiny"].config}
        channels = changes.get("in_channels", 4)
        case = case._replace(latent=(channels, *PRESETS[f"{name}-tiny"].latent[1:]))
    mine = ours(name, case, device, dtype, changes)
    config = dict(mine.model.config)
    theirs = peer_of(case, config, device, dtype)
    width = config["heads"] * config["head_width"]
    print(
        f"\n{name}: {blocks_of(config)} blocks of {width}, latents {'x'.join(map(str, case.latent))};"
        f" {mine.parameters / 1e6:.1f} M parameters, {case.peer} {theirs.parameters / 1e6:.1f} M"
    )
    for title, mode in (("forward", forward), ("forward + backward", both_ways)):
        works = [mode(mine), mode(theirs)]
        times: list[list[float]] = [[], []]
        for round_number in range(options.rounds + 1):
            for work, found in zip(works, times, strict=True):
                took = seconds(work, device)
                if round_number:  # the first warms up
                    found.append(took)
        row(title, *(1e3 * statistics.median(found) for found in times), "ms")
    row("memory of a training pass", kept_megabytes(mine, device), kept_megabytes(theirs, device), "MB")


def row(what: str, mine: float, theirs: float, unit: str) -> None:
    print(
        f"  {what:<28}{mine:>10.1f} {unit}  peer {theirs:>10.1f} {unit}  ratio {mine / theirs:.2f}",
        flush=True,
    )


def stdit_flops(config: Config, grid: tuple[int, int, int], text_tokens: int) -> dict[str, float]:
    """Floating-point operations of a forward pass of STDiT for one sample, two per multiply-add.

    N = T S tokens of width D, L words; a layer is a spatial and a temporal block. Norms and modulation are not counted.
    """
    frames, per_frame = grid[0], grid[1] * grid[2]
    tokens, width, layers = frames * per_frame, config["heads"] * config["head_width"], config["depth"]
    blocks = 2 * layers
    return {
        "2 layers (8 N D^2) query, key, value, out": blocks * 8 * tokens * width**2,
        "layers (4 N S D + 4 N T D) self-attention": layers * 4 * tokens * width * (per_frame + frames),
        "2 layers (4 N D^2 + 4 L D^2 + 4 N L D) text": blocks
        * (4 * tokens * width**2 + 4 * text_tokens * width**2 + 4 * tokens * text_tokens * width),
        "2 layers (2 mlp 2 N D^2) feed-forward": blocks * 4 * config["mlp_ratio"] * tokens * width**2,
    }


def model_flops_utilisation(device: torch.device, options: argparse.Namespace) -> None:
    """STDiT3-XL/2 as published, forward and backward, as a share of the GPU's peak."""
    name, known = torch.cuda.get_device_name(device), PRESETS["stdit3-xl-2"]
    peak = options.peak_tflops or next((peak for key, peak in PEAK_TFLOPS.items() if key in name), None)
    model = moved(preset("stdit3-xl-2"), device, torch.bfloat16)
    call = torch.compile(model) if options.compile else model
    latents = torch.randn(options.batch, *known.latent, device=device, dtype=torch.bfloat16)
    inputs = inputs_of(model.config, latents)
    work = both_ways(Timed(model, lambda: call(latents, **inputs), 0))
    for _ in range(3):
        work()
    took = statistics.median(seconds(work, device) for _ in range(options.rounds))
    grid = (known.latent[1], -(-known.latent[2] // 2), -(-known.latent[3] // 2))
    terms = stdit_flops(model.config, grid, inputs["text"].shape[1])
    total = 3 * options.batch * sum(terms.values())
    print(f"\nstdit3-xl-2 whole, {known.video} frames x pixels, batch {options.batch}, bfloat16, on {name}")
    for formula, flops in terms.items():
        print(f"  {formula:<48}{flops / 1e12:>8.2f} TFLOP a sample")
    print(
        f"  forward + backward = 3 x forward x batch          {total / 1e12:>8.2f} TFLOP in {took * 1e3:.0f} ms"
    )
    print(f"  peak memory {torch.cuda.max_memory_allocated() / 1e9:.1f} GB")
    if peak is None:
        print(f"  {total / took / 1e12:.0f} TFLOP/s; the peak of {name} is not known, give --peak-tflops")
        return
    share = total / took / (peak * 1e12)
    print(f"  MFU {share:.3f} of {peak} TFLOP/s; aim 0.40, ratio {share / 0.4:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="the tiny twins: only to see that it runs")
    parser.add_argument("--only", choices=CASES, help="one of the presets")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=4, help="of the whole model on a GPU")
    parser.add_argument("--compile", action="store_true", help="torch.compile the whole model on a GPU")
    parser.add_argument("--peak-tflops", type=float, help="of this GPU in bfloat16, where it is not known")
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    torch.manual_seed(0)
    print(f"{device.type}, {dtype}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    for name, case in CASES.items():
        if options.only in (None, name):
            compare(name, case, device, dtype, options)
    if device.type == "cuda" and options.only in (None, "stdit3-xl-2"):
        model_flops_utilisation(device, options)


if __name__ == "__main__":
    main()
