"""What the four autoencoder stages have in common: their clips, and what they write and say when they are done."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from components.artifacts import StagePaths, fresh_folder, write_json
from components.autoencoder.config import FramesConfig, TrainedOrTaken
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
from components.training.config import LoopConfig
from components.training.curves import write_csv
from components.training.loop import train
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


def step_batches(config: LoopConfig) -> int:
    """Batches of one optimizer step, over accumulation and processes."""
    return config.accumulation * launch().world_size


def fit_and_finish(
    program: AutoencoderProgram, clips: StageClips, config: TrainedOrTaken, paths: StagePaths
) -> Report:
    """Train the program's codec, or leave taken weights as they are; measure it, and write its folder and contract."""
    codec = program.objective.codec
    metrics = _fit(program, config, paths)
    if config.weights is None:
        count = clips.batches_of(clips.train, STATISTICS_CLIPS)
        measure_statistics(codec.eval(), clips.train, count=count)
    metrics |= _quality(codec.eval(), clips)
    if launch().rank == 0:
        _write(codec, paths.output("autoencoder"), sorted(paths.checkpoints.glob("ema-*")))
        remove_checkpoints(paths)
    counts = {"train_clips": len(clips.train.clips), "held_out_clips": len(clips.held_out.clips)}
    return Report(paths.checkpoints.name, metrics=metrics, counts=counts, notes=clips.notes)


def _fit(program: AutoencoderProgram, config: TrainedOrTaken, paths: StagePaths) -> dict[str, float]:
    """What the report says of the training."""
    if config.weights:
        write_csv([], paths.output("curve"))
        return {"steps": 0}
    title = paths.checkpoints.name
    result = train(program, config, paths, fingerprint=fingerprint_of(config, paths), title=title)
    if launch().rank == 0:
        for name in each_average(program.objective, result.other_averages):
            program.objective.codec.save_pretrained(paths.checkpoints / name)
    return result.metrics()


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
