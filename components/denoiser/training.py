"""Training a video transformer on latents: the body that the adaptation steps and the training stages share."""

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from components.artifacts import StagePaths, fresh_folder, write_json
from components.data.loader import LatentBatches, requested
from components.denoiser.config import LatentStageConfig, TimesConfig
from components.denoiser.facts import TrainingFacts
from components.denoiser.fixed_losses import FixedLosses, from_noise
from components.denoiser.held_out import held_out_checks
from components.denoiser.latent_inputs import channels_of, facts_of
from components.denoiser.programs import Feed, FlowProgram
from components.denoiser.system_config import VideoStageConfig
from components.denoiser.v_prediction import Upsampling
from components.errors import ContractError, UserError
from components.report import Report
from components.runtime import is_main_process
from components.training import processes
from components.training.averages import each_average
from components.training.checkpoint import fingerprint_of, remove_checkpoints
from components.training.config import LoopConfig
from components.training.curves import reported
from components.training.loop import TrainResult, train
from components.training.program import Check, Program
from models.coverage import CoverageReport
from models.diffusion import FrameMasks, InputChannels, RectifiedFlow, Times
from models.diffusion.objective import Objective
from models.shapes import token_grid
from models.transformers.sequence import axis_to_divide
from models.transformers.video_transformer import VideoTransformer

log = logging.getLogger(__name__)
COVERAGE = "coverage.json"
NOTHING_BESIDE = InputChannels()
MakeProgram = Callable[[VideoTransformer, Feed, LatentStageConfig], tuple[Program, Objective]]


class Recorder(Check, Protocol):
    """A check that leaves a file beside the weights."""

    def write(self, result: TrainResult, folder: Path, /) -> None: ...


MakeRecorder = Callable[[VideoTransformer, RectifiedFlow], Recorder | None]


@dataclass(frozen=True)
class Start:
    """A model that is ready for a stage: its weights, and how it came to them."""

    model: VideoTransformer
    coverage: CoverageReport
    objective: str


@dataclass(frozen=True)
class Course:
    """What a stage teaches, and what its output is to say of itself."""

    program: Program
    facts: TrainingFacts
    samples: int  # of an epoch
    recorder: Recorder | None = (
        None  # looks at the averaged weights, and leaves what it has found beside them
    )
    checks: Sequence[Check] = ()  # that look at them too


def epsilon_program(
    model: VideoTransformer, feed: Feed, _config: LatentStageConfig
) -> tuple[Program, Objective]:
    """Noise prediction, and how a step of it is drawn."""
    from components.denoiser.epsilon import EpsilonProgram  # brings in all of diffusers' schedulers

    program = EpsilonProgram(model, feed)
    return program, program.diffusion


def flow_program(model: VideoTransformer, feed: Feed, config: LatentStageConfig) -> tuple[Program, Objective]:
    """Rectified flow, and how a step of it is drawn."""
    assert config.times is not None  # by the configuration of every stage with this objective
    times, masks = Times(**config.times.model_dump()), FrameMasks(**config.masks.model_dump())
    flow = RectifiedFlow(times)
    return FlowProgram(model, feed, flow, masks), flow


OBJECTIVES: dict[str, MakeProgram] = {"epsilon": epsilon_program, "flow": flow_program}


def train_stage(
    name: str,
    start: Start,
    batches: LatentBatches,
    config: LatentStageConfig,
    paths: StagePaths,
    make_recorder: MakeRecorder | None = None,
) -> Report:
    """Train the model and write the averaged weights with coverage and facts to `paths.output("transformer")`.

    `make_recorder` makes what looks at a flow model in place of the plain validation loss.
    """
    model = start.model
    require_channels(model, channels_of(batches), paths.input("latents"))
    require_division(model, batches, config.sequence_parallel)
    _freeze(model, config)
    program, objective = OBJECTIVES[start.objective](model, Feed(batches, config.caption_dropout), config)
    facts = facts_of(batches, start.objective, _plain(config.times))
    recorder = None
    if make_recorder and isinstance(objective, RectifiedFlow):
        recorder = make_recorder(model, objective)
    checks = checks_of(config, paths, model, objective, recorder=recorder)
    course = Course(program, facts, batches.samples, recorder, checks)
    return train_program(name, start, course, config, paths)


def checks_of(
    config: LatentStageConfig | VideoStageConfig,
    paths: StagePaths,
    model: VideoTransformer,
    objective: Objective,
    losses: FixedLosses | None = None,
    upsampling: Upsampling | None = None,
    recorder: Recorder | None = None,
) -> list[Check]:
    """What looks at the model beside the recorder: held-out clips and previews, where the stage asks for them.

    losses: what is measured on held-out clips; None: the loss of the objective. A recorder measures that itself.
    """
    held_out = [] if recorder else held_out_checks(config, paths, losses or from_noise(objective))
    if not config.preview.steps:
        return held_out
    from components.previews import Previewed, preview_checks  # brings in all that generation needs

    previewed = Previewed(model, objective, upsampling)
    return [*held_out, *preview_checks(config, config.batches, paths, previewed)]


def train_program(name: str, start: Start, course: Course, config: LoopConfig, paths: StagePaths) -> Report:
    """Train the model of `start` and write its averaged weights with coverage and facts."""
    processes.require_samples(course.samples, str(paths.input("latents")))
    log.info("%s: weights\n%s", name, start.coverage.text())
    start.model.train()
    identity = fingerprint_of(config, paths)
    checks = [*([course.recorder] if course.recorder else []), *course.checks]
    result = train(course.program, config, paths, fingerprint=identity, title=name, checks=checks)
    if is_main_process():
        others = each_average(course.program.module, result.other_averages)
        with fresh_folder(paths.output("transformer")) as folder:
            export(start.model, start.coverage, course.facts, folder, others)
            if course.recorder:
                course.recorder.write(result, folder)
        remove_checkpoints(paths)
    return Report(
        *(name, result.metrics(), {"samples": course.samples}),
        notes=_notes(start),
        quarantine=result.quarantine(),
        looks=reported(result.looks),
    )


def export(
    model: VideoTransformer,
    coverage: CoverageReport,
    facts: TrainingFacts,
    folder: Path,
    others: Iterable[str] = (),
) -> None:
    """Fill the folder that the next stage starts from. others: folders in it, for what the model holds at each."""
    model.requires_grad_(True).save_pretrained(folder)
    write_json(folder / COVERAGE, coverage.as_dict())
    facts.write(folder)
    for name in others:
        model.save_pretrained(folder / name)


def require_channels(
    model: VideoTransformer, latent_channels: int, manifest: Path, beside: InputChannels = NOTHING_BESIDE
) -> None:
    """Raises `ContractError` before the first step where the model does not take the latents' channels.

    `beside` are the channels that the objective puts after them.
    """
    needed = beside.count(latent_channels)
    if model.config.in_channels != needed:
        raise ContractError(
            f"latents in {manifest} have {latent_channels} channels, which makes {needed} with those of the objective,"
            f" and the model takes {model.config.in_channels}; encode with the autoencoder it was trained on"
        )


def require_division(model: VideoTransformer, batches: LatentBatches, processes: int) -> None:
    """Raises `UserError` before the first step for a bucket whose clips so many processes cannot share."""
    for family, _ in requested(batches.store.manifest, batches.config):
        _, rows, columns = token_grid(family.latent_shape[1:], model.patch)
        try:
            axis_to_divide((rows, columns), processes)
        except ValueError as error:
            raise UserError(f"bucket {family.name}: {error}") from None


def _freeze(model: VideoTransformer, config: LatentStageConfig) -> None:
    """Leave only the stage's part of the model trainable."""
    if config.trainable == "temporal":
        chosen = model.temporal_parameters()
        model.requires_grad_(False)
        for parameter in chosen:
            parameter.requires_grad_(True)
    if config.freeze_caption:
        model.caption.requires_grad_(False)


def _plain(times: TimesConfig | None) -> dict[str, Any] | None:
    return times.model_dump(mode="json") if times else None


def _notes(start: Start) -> list[str]:
    coverage = start.coverage
    counts = {"loaded": coverage.loaded, "new": coverage.new, "zero": coverage.zero_initialised}
    sentence = ", ".join(f"{len(names)} {kind}" for kind, names in counts.items())
    return [f"tensors at the start: {sentence}, {len(coverage.dropped)} dropped", *coverage.notes]
