"""Stage `evaluate`: one model under one protocol, with everything the gate needs to compare it with another.

Its files: `record.json` (scores with identities, per prompt), `features.safetensors`, and videos to look at.
All numbers are of the small extractor and carry names of their own (`toy_fvd`): they are not published FVD.
"""

import logging
import shutil
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file
from torch import Tensor

from components.artifacts import StagePaths, fresh_folder, sha256_of, sha256_of_json
from components.data.caption_suffix import asking
from components.data.latents import LatentManifest
from components.errors import ContractError
from components.evaluation import scores
from components.evaluation.attributes import Judgement, judge
from components.evaluation.classifier import Extractor
from components.evaluation.config import EvaluateConfig
from components.evaluation.gallery import write_reconstructions, write_samples
from components.evaluation.generate import Frames, check, generate, untrained
from components.evaluation.protocol import Protocol, Sampling
from components.evaluation.published.measure import Material, Published
from components.evaluation.record import FEATURES_FILE, EvaluationRecord, Metric
from components.evaluation.reference import Reference, read_reference
from components.evaluation.text_video import TextVideoEncoder
from components.evaluation.validation_loss import facts_of, losses_of_clips
from components.evaluation.vbench.measure import Vbench
from components.ladder.verdict import REJECTED_FILE, LadderVerdict
from components.params import Params
from components.report import Report
from components.runtime import compute_device, resolve_precision
from models.generation.pipeline import TextToVideoPipeline, to_pixels

log = logging.getLogger(__name__)
SHOWN_RECONSTRUCTIONS = 6


@dataclass(frozen=True)
class _Judges:
    """The networks that look at the videos."""

    published: Published
    extractor: Extractor
    extractor_folder: Path
    vbench: Vbench | None


@dataclass(frozen=True)
class _Task:
    """What is evaluated, and how."""

    config: EvaluateConfig
    pipeline: TextToVideoPipeline
    model_sha256: str
    reference: Reference
    protocol: Protocol
    judges: _Judges


@dataclass(frozen=True)
class _Videos:
    """What was made: by the model, by an untrained one, and by the autoencoder alone of the first clips."""

    generated: Frames
    untrained: Frames
    decoded: Frames
    latents: Tensor  # of all reference clips


def run(config: EvaluateConfig, paths: StagePaths) -> Report:
    """Generate, measure, and write the evaluation's folder; of a model that the ladder turned away, only why.

    Raises `ContractError` for an extractor of another length or latents of another autoencoder, `UserError`
    for a size that the model cannot make or too few clips.
    """
    rejected = LadderVerdict.read(paths.input("ladder"))
    if not rejected.survives and rejected.model_sha256 == sha256_of(paths.input("pipeline")):
        return _turned_away(rejected, paths.output("evaluation"))
    extractor = _extractor(config, paths.input("extractor"))
    task = _prepare(config, paths, extractor)
    videos = _make_videos(task, paths.checkpoints)
    seen = _look(task, videos)
    metrics, features = _measure(task, videos, seen, paths.checkpoints)
    with fresh_folder(paths.output("evaluation")) as folder:
        save_file(features, folder / FEATURES_FILE)
        record = _record(folder, task, videos, seen.generated, metrics)
        record.write(folder)
    shutil.rmtree(paths.checkpoints, ignore_errors=True)
    return _report(record, task.reference, seen.generated)


def _turned_away(verdict: LadderVerdict, target: Path) -> Report:
    log.warning("not evaluated, rejected by the ladder: %s", "; ".join(verdict.reasons))
    with fresh_folder(target) as folder:
        verdict.write(folder / REJECTED_FILE)
    notes = [f"model {verdict.model_sha256}", "not evaluated: rejected by the ladder", *verdict.reasons]
    return Report("evaluate", counts={"prompts": 0}, notes=notes)


def _prepare(config: EvaluateConfig, paths: StagePaths, extractor: Extractor) -> _Task:
    """Load and check everything before the first sample is made."""
    vbench = Vbench(config.vbench, paths.root) if config.vbench else None
    published = Published.open(config.published, paths.root, config.frames, config.seed)
    runtime = Params.load(paths.root / "params.yaml").runtime
    precision = resolve_precision("auto")
    pipeline = _pipeline(paths, precision)
    reference = read_reference(config, paths, runtime.limits("evaluate"))
    settings = check(pipeline, asking(reference.prompts, config.scores), config)
    sampling = Sampling(pipeline.objective.sampler, settings.guidance_rescale, precision)
    protocol = Protocol.of(config, reference, extractor=extractor.sha256, sampling=sampling)
    judges = _Judges(published, extractor, paths.input("extractor"), vbench)
    return _Task(config, pipeline, sha256_of(paths.input("pipeline")), reference, protocol, judges)


def _extractor(config: EvaluateConfig, folder: Path) -> Extractor:
    extractor = Extractor.load(folder)
    if extractor.model.config.frames != config.frames:
        raise ContractError(
            f"the extractor reads {extractor.model.config.frames} frames, evaluate.frames is {config.frames};"
            " set extractor.frames to the same number and train it again"
        )
    return extractor


def _pipeline(paths: StagePaths, precision: str) -> TextToVideoPipeline:
    """The model, after a check that the latents it was trained on are those of its autoencoder."""
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    pipeline = TextToVideoPipeline.from_pretrained(paths.input("pipeline"))
    stored = LatentManifest.read(paths.input("latents")).contract
    if stored != (own := pipeline.codec.contract()):
        differing = ", ".join(sorted(key for key in own if stored.get(key) != own[key]))
        raise ContractError(
            f"{paths.input('latents')} was made by another autoencoder than the pipeline's (different: {differing});"
            " encode, train and package again"
        )
    return pipeline.to(compute_device(), dtype)


def _make_videos(task: _Task, checkpoints: Path) -> _Videos:
    """All videos; finished batches of this model under this protocol are found again below `checkpoints`."""
    config, frames = task.config, task.reference.frames
    prompts = asking(task.reference.prompts, config.scores)
    keep = checkpoints / sha256_of_json([task.protocol.as_json(), task.model_sha256])[:16]
    generated = generate(task.pipeline, prompts, config, keep=keep / "candidate", title="samples")
    fresh = untrained(task.pipeline, config.seed)
    never = generate(fresh, prompts, config, keep=keep / "untrained", title="samples, untrained")
    latents = _encode(task.pipeline, frames, config.batch)
    decoded = _decode(task.pipeline, latents[: config.reconstruction_clips], config)
    return _Videos(generated, never, decoded, latents)


@torch.inference_mode()
def _encode(pipeline: TextToVideoPipeline, frames: Frames, batch: int) -> Tensor:
    """uint8 (N, T, H, W, 3) -> latents (N, C, t, h, w)."""
    parts = []
    for start in range(0, len(frames), batch):
        pixels = torch.from_numpy(frames[start : start + batch]).permute(0, 4, 1, 2, 3)
        parts.append(pipeline.codec.encode(pixels.float().div(127.5).sub(1.0).to(pipeline.device)))
    return torch.cat(parts)


@torch.inference_mode()
def _decode(pipeline: TextToVideoPipeline, latents: Tensor, config: EvaluateConfig) -> Frames:
    parts = (latents[start : start + config.batch] for start in range(0, len(latents), config.batch))
    return np.concatenate([to_pixels(pipeline.codec.decode(part, config.frames)) for part in parts])


@dataclass(frozen=True)
class _Seen:
    """What the extractor made of the videos: features, judgements of the model's and of the real ones, scores."""

    features: scores.FeatureSets
    generated: list[Judgement]
    real: list[Judgement]
    toy: dict[str, Metric]


def _look(task: _Task, videos: _Videos) -> _Seen:
    extractor, reference = task.judges.extractor, task.reference
    made, real = extractor.read(videos.generated), extractor.read(reference.frames)
    never = extractor.read(videos.untrained)
    judged = partial(judge, reference.ids, reference.prompts, training_captions=reference.training_captions)
    features = scores.FeatureSets(made.features, real.features, never.features)
    encoder, digest = TextVideoEncoder.load(task.judges.extractor_folder)
    toy = scores.toy_scores(reference.ids, reference.prompts, made, encoder, digest, task.protocol)
    return _Seen(features, judged(words=made.words), judged(words=real.words), toy)


def _measure(
    task: _Task, videos: _Videos, seen: _Seen, checkpoints: Path
) -> tuple[dict[str, Metric], dict[str, scores.Features]]:
    """All metrics, and all features that a comparison needs again."""
    reference, protocol = task.reference, task.protocol
    shown = len(videos.decoded)
    material = Material(reference.ids, reference.prompts, videos.generated, reference.frames, videos.decoded)
    published, features = task.judges.published.measure(material, protocol)
    metrics = {
        **scores.distances(seen.features, protocol),
        **scores.accuracies(seen.generated, seen.real, protocol),
        **scores.motion(reference.ids, videos.generated, reference.frames, protocol),
        **scores.reconstructions(reference.ids[:shown], reference.frames[:shown], videos.decoded, protocol),
        **seen.toy,
        **_validation_loss(task, videos.latents),
        **published,
        **_vbench(task, videos, checkpoints),
    }
    return metrics, {**seen.features.as_dict(), **features}


def _vbench(task: _Task, videos: _Videos, checkpoints: Path) -> dict[str, Metric]:
    """VBench's dimensions, where they are asked for."""
    vbench, config, reference = task.judges.vbench, task.config, task.reference
    if vbench is None:
        return {}
    keep = checkpoints / f"vbench-{task.model_sha256[:16]}"
    if vbench.config.mode == "own":
        return vbench.on_own_videos(reference.ids, reference.prompts, videos.generated, config.fps, keep)
    settings = check(task.pipeline, reference.prompts, config)
    if config.scores.by_name:
        keep = checkpoints / f"{keep.name}-{sha256_of_json(config.scores.model_dump())[:16]}"
    return vbench.on_standard_videos(
        task.pipeline, settings, task.model_sha256, keep, partial(asking, scores=config.scores)
    )


def _validation_loss(task: _Task, latents: Tensor) -> dict[str, Metric]:
    """The loss on the reference clips. Its identity names the autoencoder, as losses on other latents differ.

    It names the objective too, with what decides its loss. Where prompts say scores, clips are told with their
    own.
    """
    config, reference = task.config, task.reference
    scored = bool(config.scores.by_name)
    losses = losses_of_clips(
        task.pipeline,
        latents,
        reference.scored_captions if scored else reference.prompts,
        reference.ids,
        check(task.pipeline, reference.prompts, config),
        times=config.validation_loss_times,
        batch=config.batch,
    )
    decides = {
        "seed": config.seed,
        "times": config.validation_loss_times,
        "precision": task.protocol.generation["precision"],
        **({"captions": sha256_of_json(reference.scored_captions)} if scored else {}),
    }
    own = {"autoencoder": task.pipeline.codec.contract(), **facts_of(task.pipeline.objective)}
    return scores.validation_loss(reference.ids, losses, task.protocol, own, **decides)


def _record(
    folder: Path, task: _Task, videos: _Videos, judgements: list[Judgement], metrics: dict[str, Metric]
) -> EvaluationRecord:
    """The record, after the videos that it names are written below `folder`."""
    config, reference = task.config, task.reference
    shown = min(SHOWN_RECONSTRUCTIONS, len(videos.decoded))
    psnr = metrics["reconstruction_psnr"].per_item
    return EvaluationRecord(
        model_sha256=task.model_sha256,
        protocol={**task.protocol.as_json(), "clips": reference.ids, "notes": list(reference.notes)},
        samples=len(reference.clips),
        prompts=reference.prompts,
        metrics=metrics,
        gallery=write_samples(
            folder, videos.generated, reference.prompts, judgements, count=config.gallery, fps=config.fps
        ),
        reconstructions=write_reconstructions(
            folder,
            reference.frames[:shown],
            videos.decoded[:shown],
            [psnr[clip] for clip in reference.ids[:shown]],
            fps=config.fps,
        ),
    )


def _report(record: EvaluationRecord, reference: Reference, judgements: list[Judgement]) -> Report:
    metrics = {name: round(m.value, 6) for name, m in record.metrics.items() if m.value is not None}
    metrics["toy_fvd_share_of_untrained"] = round(
        metrics["toy_fvd"] / max(metrics["toy_fvd_untrained"], 1e-9), 6
    )
    for name in sorted(metrics):
        log.info("%s  %.4g", name, metrics[name])
    return Report(
        "evaluate",
        metrics=dict(metrics),
        counts={
            "prompts": record.samples,
            "prompts_held_out": sum(one.held_out for one in judgements),
            "samples_kept": len(record.gallery),
        },
        notes=[f"model {record.model_sha256}", *reference.notes],
    )
