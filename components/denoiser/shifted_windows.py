"""Stages `hdvila@stage1` and `hdvila@stage2`: the shifted-window model, from nothing, with rectified flow."""

from components.artifacts import StagePaths
from components.denoiser.beginning import begin
from components.denoiser.latent_inputs import facts_of, open_batches
from components.denoiser.programs import Feed, FlowProgram
from components.denoiser.system_config import ShiftedWindowStageConfig
from components.denoiser.training import Course, checks_of, train_program
from components.ladder.check import Climber, ladder_of, weighed_by
from components.report import Report
from models.diffusion import FrameMasks, RectifiedFlow, Times

OBJECTIVE = "flow"


def run(config: ShiftedWindowStageConfig, paths: StagePaths) -> Report:
    """Train at one resolution. Raises `ContractError` for weights that do not go with the latents."""
    batches = open_batches(config.batches, paths)
    start = begin(config, batches, paths, OBJECTIVE)
    flow = RectifiedFlow(Times(**config.times.model_dump()))
    masks = FrameMasks(**config.masks.model_dump())
    program = FlowProgram(start.model, Feed(batches, config.caption_dropout), flow, masks)
    facts = facts_of(batches, OBJECTIVE, config.times.model_dump(mode="json"))
    ladder = ladder_of(config, paths, Climber(start.model, flow, OBJECTIVE, weighed_by(config.times)))
    checks = checks_of(config, paths, start.model, flow, recorder=ladder)
    course = Course(program, facts, batches.samples, ladder, checks)
    return train_program(paths.checkpoints.name, start, course, config, paths)
