"""Our training loop against a bare PyTorch loop of the same model on the same batches, taking turns in one run.

    python -m benchmarks.training [--quick] [--rounds N]

The bare loop has what the result needs and nothing else: batches, loss, backward pass, clipping, fused AdamW, an
average of the weights. Ours adds DeepSpeed, the sentinel, curves, log lines, FLOPs and checkpoints. Printed are the
medians of a step and what ours costs more, the share of time spent on waiting for data, and the share for which
checkpoints stop training; aims are 3, 2 and 2 %. CPU seconds are those of the training thread: they say what the loop
costs where other work disturbs the clock. Where there is a GPU, steps of STDiT3-XL/2 and of the HD-VILA model in
bfloat16 are run both ways, with MFU and peak memory.
"""

import argparse
import logging
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Generator, Tensor, nn

from components.data.config import BatchesConfig
from components.denoiser.latent_inputs import open_batches
from components.denoiser.programs import Feed, FlowProgram
from components.planning.flops import count_flops, meta_twin, on_meta
from components.training.config import LoopConfig, OptimizerConfig
from components.training.fingerprint import Fingerprint
from components.training.loop import seed_of, train
from components.training.program import StepResult
from components.training.work import peak_flops
from models.diffusion import FrameMasks, RectifiedFlow, Times
from models.transformers.presets import PRESETS, preset
from models.transformers.video_transformer import VideoTransformer
from tests.tiny_latents import make_latents, make_text, stage_paths

WARM = 3  # steps that are not counted
AIMS = {"loop": 0.03, "loop, CPU": 0.03, "data": 0.02, "checkpoints": 0.02}
CLIP = (9, 64, 64)
SETTINGS = OptimizerConfig(lr=1e-4)
GPU_PRESETS = ("stdit3-xl-2", "hdvila-flat")


class Steps(Protocol):
    """A program, as `components.training.program` has it."""

    @property
    def module(self) -> nn.Module: ...

    def step(self, module: nn.Module, position: int, generator: Generator, /) -> StepResult: ...


@dataclass
class Watched:
    """A program that notes when its steps begin, and how long they wait for data."""

    program: Steps
    starts: list[float] = field(default_factory=list)
    busy: list[float] = field(default_factory=list)  # CPU seconds of this thread, at each start
    waited: list[float] = field(default_factory=list)

    @property
    def module(self) -> nn.Module:
        return self.program.module

    def step(self, module: nn.Module, position: int, generator: Generator, /) -> StepResult:
        _settle()
        self.starts.append(time.perf_counter())
        self.busy.append(time.thread_time())
        result = self.program.step(module, position, generator)
        self.waited.append(result.wait_seconds)
        return result

    def median(self, moments: list[float]) -> float:
        """Seconds from step to step, without the first ones."""
        steps = [later - earlier for earlier, later in pairwise(moments)]
        return statistics.median(steps[WARM:])


@dataclass(frozen=True)
class Synthetic:
    """Rectified flow on random latents of one shape: what a GPU is measured with."""

    module: VideoTransformer
    shape: tuple[int, ...]

    def step(self, module: nn.Module, _position: int, _generator: Generator, /) -> StepResult:
        inputs = inputs_of(self.module, self.shape)
        latents = inputs["latents"]
        output: Tensor = module(**inputs)
        return StepResult((output[:, : latents.shape[1]].float() - latents).square().mean())


def inputs_of(model: VideoTransformer, shape: tuple[int, ...]) -> dict[str, Tensor]:
    """Random latents (B, C, T, H, W), captions and conditions."""
    device, config, batch = next(model.parameters()).device, model.config, shape[0]
    inputs = {
        "latents": torch.randn(shape, device=device),
        "timestep": torch.full((batch,), 500.0, device=device),
        "text": torch.randn(batch, config.max_text_tokens, config.caption_channels, device=device),
        "text_mask": torch.ones(batch, config.max_text_tokens, device=device),
        "size": torch.tensor([[8.0 * side for side in shape[3:]]] * batch, device=device),
    }
    return {**inputs, "fps": torch.full((batch,), 24.0, device=device)}


def bare_loop(program: Steps, steps: int, *, seed: int, decay: float, bf16: bool) -> None:
    """The same training in nothing but PyTorch."""
    module = program.module
    device = next(module.parameters()).device.type
    parameters = [value for value in module.parameters() if value.requires_grad]
    averages = [value.detach().clone() for value in parameters]
    optimizer = torch.optim.AdamW(parameters, lr=SETTINGS.lr, weight_decay=SETTINGS.weight_decay, fused=True)
    for step in range(steps):
        generator = Generator().manual_seed(seed_of(seed, step))
        with torch.autocast(device, torch.bfloat16, enabled=bf16):
            loss = program.step(module, step, generator).loss
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, SETTINGS.clip)
        optimizer.step()
        optimizer.zero_grad()
        with torch.no_grad():
            torch._foreach_lerp_(averages, parameters, 1 - min(decay, (1 + step) / (10 + step)))


def our_loop(program: Steps, root: Path, config: LoopConfig) -> float:
    """The same through `components.training`; returns the seconds for which checkpoints stopped it."""
    paths = stage_paths(root, "benchmark", None, root, root / "out")
    result = train(
        program, config, paths, fingerprint=Fingerprint("benchmark"), title="benchmark", resume="none"
    )
    return result.stall_seconds


@dataclass(frozen=True)
class Round:
    """Both loops, one after the other."""

    bare: float  # seconds of a step, median
    ours: float
    bare_cpu: float
    ours_cpu: float
    wait_share: float
    stall_share: float


def loop_round(root: Path, program: FlowProgram, config: LoopConfig) -> Round:
    fresh = {name: value.clone() for name, value in program.module.state_dict().items()}
    bare, ours = Watched(program), Watched(program)
    bare_loop(bare, config.steps, seed=config.seed, decay=config.decays[0], bf16=False)
    program.module.load_state_dict(fresh)
    stalled = our_loop(ours, root, config)
    program.module.load_state_dict(fresh)
    total = ours.starts[-1] - ours.starts[0]
    return Round(
        bare.median(bare.starts),
        ours.median(ours.starts),
        bare.median(bare.busy),
        ours.median(ours.busy),
        sum(ours.waited[WARM:]) / total,
        stalled / total,
    )


def compare_loops(rounds: int, *, quick: bool) -> None:
    """Overhead, data wait and checkpoint stall on this machine's CPU, in float32."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        program = make_program(root, width=32 if quick else 64)
        steps = 12 if quick else 24
        config = LoopConfig(
            steps=steps, seed=1, optimizer=SETTINGS, precision="fp32", checkpoint_steps=steps // 2
        )
        size = sum(value.numel() for value in program.module.parameters())
        print(
            f"{size / 1e6:.1f} M parameters, clips of {CLIP}, a checkpoint every {steps // 2} steps, float32"
        )
        found = []
        for number in range(rounds):
            found.append(loop_round(root, program, config))
            one = found[-1]
            print(
                f"  round {number + 1}: bare {one.bare * 1e3:.1f} ms, ours {one.ours * 1e3:.1f} ms a step;"
                f" CPU {one.bare_cpu * 1e3:.1f} and {one.ours_cpu * 1e3:.1f} ms"
            )
    shares = {
        "loop": statistics.median(one.ours / one.bare - 1 for one in found),
        "loop, CPU": statistics.median(one.ours_cpu / one.bare_cpu - 1 for one in found),
        "data": statistics.median(one.wait_share for one in found),
        "checkpoints": statistics.median(one.stall_share for one in found),
    }
    for name, share in shares.items():
        print(
            f"{name:<12} {100 * share:5.1f} %   aim {100 * AIMS[name]:.0f} %, ratio {share / AIMS[name]:.2f}"
        )


def make_program(root: Path, *, width: int) -> FlowProgram:
    """A small STDiT on latents in shards, as the training stages have it."""
    make_text(root)
    latents = make_latents(root, "videos", [CLIP])
    paths = stage_paths(root, "benchmark", None, latents, root / "out")
    buckets: dict[str, Any] = {"16px": {CLIP[0]: [1.0, 2]}}
    batches = open_batches(BatchesConfig(buckets=buckets, seed=1, small_bucket="repeat"), paths)
    torch.manual_seed(0)
    model = VideoTransformer(
        in_channels=4,
        out_channels=4,
        depth=4,
        heads=4,
        head_width=width,
        caption_channels=32,
        max_text_tokens=12,
    )
    flow = RectifiedFlow(Times(distribution="logit-normal", shift=True, base_resolution=32))
    return FlowProgram(model, Feed(batches, 0.1), flow, FrameMasks())


def compare_on_gpu(steps: int, batch: int) -> None:
    """MFU and memory of whole published models in bfloat16, by our loop and by the bare one."""
    if not torch.cuda.is_available():
        print("no GPU here: MFU and memory of STDiT3-XL/2 and of the HD-VILA model were not measured")
        return
    peak = peak_flops(bf16=True)
    for name in GPU_PRESETS:
        shape = (batch, *PRESETS[name].latent)
        for way, seconds, flops in gpu_ways(name, shape, steps):
            share = (
                f"MFU {100 * flops / seconds / peak:.1f} %"
                if peak
                else f"{flops / seconds / 1e12:.0f} TFLOP/s"
            )
            memory = torch.cuda.max_memory_allocated() / 1e9
            print(
                f"{name:<14} {way:<5} {seconds * 1e3:8.1f} ms a step of {shape}  {share}  peak {memory:.1f} GB"
            )


def gpu_ways(name: str, shape: tuple[int, ...], steps: int) -> Iterator[tuple[str, float, int]]:
    """Way, seconds of a step, FLOPs of a step."""
    for way in ("bare", "ours"):
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        program = Synthetic(preset(name).cuda(), shape)
        inputs = on_meta(inputs_of(program.module, shape))
        flops = count_flops(meta_twin(program.module), lambda twin, inputs=inputs: twin(**inputs))
        watched = Watched(program)
        if way == "bare":
            bare_loop(watched, steps, seed=1, decay=0.99, bf16=True)
        else:
            settings = {"steps": steps, "seed": 1, "optimizer": SETTINGS, "precision": "bf16"}
            with tempfile.TemporaryDirectory() as folder:
                our_loop(watched, Path(folder), LoopConfig(**settings, checkpoint_steps=10 * steps))
        yield way, watched.median(watched.starts), flops


def _settle() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="a small model and few steps: only to see that it runs"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=2, help="of the whole models on a GPU")
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    compare_loops(1 if options.quick else options.rounds, quick=options.quick)
    compare_on_gpu(8 if options.quick else 20, options.batch)


if __name__ == "__main__":
    main()
