"""Stage `extractor`: the networks behind `toy_fvd`, `toy_is`, `toy_clipsim` and attribute accuracy, trained once.

Another extractor is another metric: its sha256 is part of every score's identity. Its clips come from seeds
that no footage uses, it is never a loss, and it must reach a stated accuracy on clips that it has not seen.
"""

import csv
import io
import logging
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from components.artifacts import StagePaths, fresh_folder, sha256_of
from components.errors import ContractError
from components.evaluation.augment import augment
from components.evaluation.battery import Battery, run_battery
from components.evaluation.classifier import (
    BATCH,
    VOCABULARY,
    WEIGHTS,
    ClassifierConfig,
    Extractor,
    VideoClassifier,
    save,
    to_input,
)
from components.evaluation.config import ExtractorConfig
from components.evaluation.procedural import LabelledClips, draw_clips
from components.evaluation.text_video import train_text_video
from components.params import Params
from components.progress import progress
from components.report import Report
from components.runtime import resolve_precision

log = logging.getLogger(__name__)
HELD_OUT_SEED = 1  # added to the seed: clips that training never sees
LOG_STEPS = 10
WEIGHT_DECAY = 1e-2


def run(config: ExtractorConfig, paths: StagePaths) -> Report:
    """Draw clips, train, test on unseen clips, store the weights.

    Raises `ContractError` when an accuracy is below `min_accuracy`.
    """
    runtime = Params.load(paths.root / "params.yaml").runtime
    limits = runtime.limits("evaluate")
    draw = partial(draw_clips, frames=config.frames, size=config.size, limits=limits)
    data = draw(config.seed, count=config.clips)
    model, features, losses = train(data, config)
    held_out = draw(config.seed + HELD_OUT_SEED, count=config.held_out_clips)
    accuracy = accuracy_on(held_out, model)
    log.info("held-out accuracy  %s", "  ".join(f"{name} {share:.3f}" for name, share in accuracy.items()))
    low = {name: share for name, share in accuracy.items() if share < config.min_accuracy.get(name, 0.0)}
    if low:
        found = ", ".join(f"{name} {share:.3f} < {config.min_accuracy[name]}" for name, share in low.items())
        raise ContractError(
            f"the extractor does not read unseen clips: {found}; raise extractor.steps or clips"
        )
    encoder = train_text_video(features, data.labels, config.seed)
    battery = run_battery(Extractor(model, ""), encoder, held_out, config.seed)
    _refuse_blind(battery, config)
    with fresh_folder(paths.output("extractor")) as folder:
        save(model, folder)
        encoder.save(folder)
    _write_curve(paths.output("curve"), losses)
    return Report(
        "extractor",
        metrics={
            **{f"{name}_accuracy": round(share, 6) for name, share in accuracy.items()},
            **{name: round(value, 6) for name, value in battery.numbers().items()},
        },
        counts={"clips": config.clips, "held_out_clips": config.held_out_clips},
        notes=[f"sha256 {sha256_of(paths.output('extractor') / WEIGHTS)}"],
    )


def _refuse_blind(battery: Battery, config: ExtractorConfig) -> None:
    """Raises `ContractError` where damage hardly shows, or wrong words go as well with a clip as right ones."""
    weak = [
        f"{name} is {times:.1f} times the floor, {config.min_damage_times:g} are asked"
        for name, times in battery.times.items()
        if times < config.min_damage_times
    ]
    weak += [
        f"a wrong {name} lowers the cosine by {battery.margins[name]:.2f}, {margin:g} is asked"
        for name, margin in config.min_caption_margin.items()
        if battery.margins[name] < margin
    ]
    if weak:
        raise ContractError(
            f"the extractor does not see enough: {'; '.join(weak)}; raise extractor.steps or clips"
        )


def train(data: LabelledClips, config: ExtractorConfig) -> tuple[VideoClassifier, Tensor, dict[int, float]]:
    """The trained classifier, its features (N, D) of the clips, and the loss at every logged step.

    Deterministic in the seed.
    """
    torch.manual_seed(config.seed)
    generator = torch.Generator().manual_seed(config.seed)
    model = VideoClassifier(ClassifierConfig(config.widths, config.frames, config.size))
    inputs = _damaged(data, config.size, generator)
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.lr, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, config.lr, total_steps=config.steps)
    labels = {name: torch.from_numpy(values) for name, values in data.labels.items()}
    layout = torch.channels_last_3d  # the fastest for 3D convolutions in bf16
    model.trunk.to(memory_format=layout)  # type: ignore[call-overload]
    fast = resolve_precision("auto") == "bf16"
    losses: dict[int, float] = {}
    recent: list[Tensor] = []
    with progress("extractor", config.steps) as advance:
        for step in range(1, config.steps + 1):
            rows = torch.randint(0, len(data.clips), (config.batch,), generator=generator)
            with torch.autocast("cpu", torch.bfloat16, enabled=fast):
                logits = model(inputs[rows].float().contiguous(memory_format=layout))
            loss = _loss(logits, {name: values[rows] for name, values in labels.items()})
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            schedule.step()
            recent.append(loss.detach())
            if step % LOG_STEPS == 0 or step == config.steps:
                losses[step] = float(torch.stack(recent).mean())
                recent = []
            advance(1, f"loss {losses[max(losses)]:.3f}" if losses else "")
    return model.eval(), _features(model, inputs), losses


@torch.inference_mode()
def _features(model: VideoClassifier, inputs: Tensor) -> Tensor:
    """(N, D) of the inputs that it was trained on."""
    parts = [model.features(inputs[start : start + BATCH].float()) for start in range(0, len(inputs), BATCH)]
    return torch.cat(parts).clone()


def _damaged(data: LabelledClips, size: int, generator: torch.Generator) -> Tensor:
    """All clips as inputs (N, 3, T, size, size) float16, each damaged once.

    Fresh damage in every step would take as long as the step.
    """
    starts = range(0, len(data.clips), BATCH)
    parts = [augment(to_input(data.clips[start : start + BATCH], size), generator) for start in starts]
    return torch.cat([part.half() for part in parts])


def _loss(logits: dict[str, Tensor], labels: dict[str, Tensor]) -> Tensor:
    return torch.stack([cross_entropy(logits[name].float(), labels[name]) for name in VOCABULARY]).sum()


def accuracy_on(data: LabelledClips, model: VideoClassifier) -> dict[str, float]:
    """Share of clips whose word is read right, per attribute."""
    words = Extractor(model, "").read(data.clips).words
    return {
        name: float(
            np.mean(
                [
                    VOCABULARY[name][label] == word
                    for label, word in zip(data.labels[name], words[name], strict=True)
                ]
            )
        )
        for name in VOCABULARY
    }


def _write_curve(path: Path, losses: dict[int, float]) -> None:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(("step", "loss"))
    table.writerows((step, f"{loss:.6f}") for step, loss in losses.items())
    path.write_text(text.getvalue())
