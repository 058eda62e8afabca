"""Stages `walt@...`: W.A.L.T's base model, the same at another aspect ratio, and two super-resolution models."""

from dataclasses import asdict, replace

from components.artifacts import StagePaths
from components.data.loader import LatentBatches
from components.denoiser.beginning import begin
from components.denoiser.latent_inputs import facts_of, open_batches
from components.denoiser.low_resolution import LowResolution
from components.denoiser.programs import Feed
from components.denoiser.stacks import stack_length
from components.denoiser.system_config import WaltStageConfig
from components.denoiser.training import Course, checks_of, train_program
from components.denoiser.v_prediction import FixedTasks, Upsampling, VPredictionProgram
from components.errors import UserError
from components.ladder.check import Climber, ladder_of
from components.report import Report
from models.diffusion import FramePrediction, InputChannels, NoiseAugmentation, VPrediction
from models.diffusion.guidance import GUIDANCE_RESCALE

OBJECTIVE = "v_prediction"
CHANNELS = InputChannels(estimate=True, frames=True)


def run(config: WaltStageConfig, paths: StagePaths) -> Report:
    """Train one of the models. Raises `ContractError` for weights or resolutions that do not go with the latents."""
    name = paths.checkpoints.name
    batches = open_batches(config.batches, paths)
    start = begin(config, batches, paths, OBJECTIVE, CHANNELS)
    diffusion = VPrediction(channels=CHANNELS, self_conditioning=config.self_conditioning)
    given = FramePrediction(**config.frame_prediction.model_dump())
    source = _upsampling(config, batches, diffusion)
    program = VPredictionProgram(
        start.model,
        Feed(batches, config.caption_dropout),
        diffusion,
        given,
        stack=stack_length(batches, config.batches, name),
        seed=config.seed,
        upsampling=source,
    )
    upsampling = config.upsampling.model_dump(mode="json") if config.upsampling else None
    facts = replace(facts_of(batches, OBJECTIVE, asdict(diffusion)), upsampling=upsampling)
    if config.upsampling and config.ladder.steps:
        raise UserError(
            f"{name}: the ladder makes videos from captions alone, which a super-resolution model cannot; set"
            " ladder.steps to 0"
        )
    tasks = FixedTasks(diffusion, given, source)
    told = {**asdict(diffusion.schedule), "given": given.longest if given.any else 0}
    climber = Climber(start.model, diffusion, OBJECTIVE, told, GUIDANCE_RESCALE, tasks)
    ladder = ladder_of(config, paths, climber)
    checks = checks_of(config, paths, start.model, diffusion, tasks, source, ladder)
    return train_program(name, start, Course(program, facts, batches.samples, ladder, checks), config, paths)


def _upsampling(config: WaltStageConfig, batches: LatentBatches, diffusion: VPrediction) -> Upsampling | None:
    wanted = config.upsampling
    if wanted is None:
        return None
    augmentation = NoiseAugmentation(max_time=wanted.max_noise_time, schedule=diffusion.schedule)
    return Upsampling(LowResolution(batches, wanted.low_resolution), augmentation)
