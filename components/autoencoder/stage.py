"""What the four autoencoder stages have in common: their clips, and what they write and say when they are done."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from components.artifacts import StagePaths, fresh_folder, write_json
from components.autoencoder.config import FramesConfig, TrainedOrTaken
from components.autoencoder.held_out import held_out_checks
from components.autoencoder.measure import (
    PSNR_CLIPS,
    STATISTICS_CLIPS,
    measure_statistics,
    reconstruction_psnr,
)
from components.autoencoder.program import AutoencoderProgram
from components.data.clips import read_clips
from components.data.frame_batches import FrameBatches
from components.report import Report
from components.runtime import launch
from components.training import processes
from components.training.averages import each_average
from components.training.checkpoint import fingerprint_of, remove_checkpoints
from components.training.curves import reported, write_csv
from components.training.loop import TrainResult, train
from models.autoencoders.codec import VideoCodec

CONTRACT = "contract.json"


@dataclass(frozen=True)
class StageClips:
    """Clips to train on, and clips to measure on."""

    train: FrameBatches
    held_out: FrameBatches
    notes: list[str]

    @classmethod
    def open(cls, data: FramesConfig, paths: StagePaths, *, seed: int) -> "StageClips":
        """Raises `UserError` when no training clip is long enough.

        Where there are no validation clips, training clips are held out in their place, and a note says so.
        """
        clips = read_clips(paths.input("clips"), root=paths.root, videos=paths.place("videos"))
        training = FrameBatches([clip for clip in clips if clip.split == "train"], data, seed)
        processes.require_samples(len(training.clips), str(paths.input("clips")))
        validation = [clip for clip in clips if clip.split == "validation"]
        if not validation:
            return cls(training, training, ["no validation clips: PSNR was measured on training clips"])
        return cls(training, FrameBatches(validation, data, seed), [])

    def batches_of(self, batches: FrameBatches, most_clips: int) -> int:
        """Batches that hold every clip once, or at most `most_clips` clips."""
        return -(-min(len(batches.clips), most_clips) // batches.data.batch)


def fit_and_finish(
    program: AutoencoderProgram, clips: StageClips, config: TrainedOrTaken, paths: StagePaths
) -> Report:
    """Train the program's codec, or leave taken weights as they are; measure it, and write its folder and contract."""
    codec = program.objective.codec
    trained = _fit(program, clips, config, paths)
    metrics = trained.metrics() if trained else {"steps": 0}
    if config.weights is None:
        count = clips.batches_of(clips.train, STATISTICS_CLIPS)
        measure_statistics(codec.eval(), clips.train, count=count)
    metrics |= _quality(codec.eval(), clips)
    if launch().rank == 0:
        _write(codec, paths.output("autoencoder"), sorted(paths.checkpoints.glob("ema-*")))
        remove_checkpoints(paths)
    counts = {"train_clips": len(clips.train.clips), "held_out_clips": len(clips.held_out.clips)}
    looks = reported(trained.looks) if trained else []
    return Report(paths.checkpoints.name, metrics=metrics, counts=counts, notes=clips.notes, looks=looks)


def _fit(
    program: AutoencoderProgram, clips: StageClips, config: TrainedOrTaken, paths: StagePaths
) -> TrainResult | None:
    """Training; None where weights are taken."""
    if config.weights:
        write_csv([], paths.output("curve"))
        return None
    title = paths.checkpoints.name
    held_out = clips.held_out if clips.held_out is not clips.train else None
    checks = held_out_checks(config, program.objective, held_out, paths)
    identity = fingerprint_of(config, paths)
    result = train(program, config, paths, fingerprint=identity, title=title, checks=checks)
    if launch().rank == 0:
        for name in each_average(program.objective, result.other_averages):
            program.objective.codec.save_pretrained(paths.checkpoints / name)
    return result


def _quality(codec: VideoCodec, clips: StageClips) -> dict[str, float]:
    """PSNR of clips, and of single frames where there are more."""
    count = clips.batches_of(clips.held_out, PSNR_CLIPS)
    metrics = {"psnr": reconstruction_psnr(codec, clips.held_out, count=count)}
    if clips.held_out.data.frames > 1:
        metrics["psnr_single_frame"] = reconstruction_psnr(codec, clips.held_out, count=count, frames=1)
    return metrics


def _write(codec: VideoCodec, folder: Path, others: list[Path]) -> None:
    """others: folders of the codec with further averages, which become part of `folder`."""
    with fresh_folder(folder) as partial:
        codec.save_pretrained(partial)
        write_json(partial / CONTRACT, codec.contract())
        for other in others:
            shutil.copytree(other, partial / other.name)
