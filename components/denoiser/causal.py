"""Stages `causal@stage1` and `causal@stage2`: the block-causal model, taught with clean frames in front."""

from dataclasses import asdict, dataclass
from typing import cast

from torch import Generator, nn

from components.artifacts import StagePaths
from components.denoiser.beginning import begin
from components.denoiser.latent_inputs import facts_of, open_batches
from components.denoiser.programs import Captioned, Feed
from components.denoiser.system_config import TeacherForcedStageConfig
from components.denoiser.training import Course, checks_of, train_program
from components.ladder.check import Climber, ladder_of, weighed_by
from components.report import Report
from components.training.program import StepResult
from models.diffusion import Denoiser, Times
from models.diffusion.blockwise_flow import BlockwiseFlow
from models.generation.rollout import CausalFlow
from models.transformers.causal import FrameBlocks

OBJECTIVE = "teacher_forcing"


@dataclass
class BlockCausalProgram:
    """Blocks of frames at times of their own, after the clean frames before them."""

    module: nn.Module
    feed: Feed
    flow: BlockwiseFlow

    def step(self, module: nn.Module, position: int, generator: Generator) -> StepResult:
        fed = self.feed.read(position, cast(Captioned, self.module), generator)
        draw = self.flow.draw(fed.latents, fed.conditions.size, generator)
        losses = self.flow.loss(cast(Denoiser, module), fed.latents, fed.conditions, draw)
        return self.feed.result(fed, losses)


def run(config: TeacherForcedStageConfig, paths: StagePaths) -> Report:
    """Train at the sizes of the batches. Raises `ContractError` for weights that do not go with the latents."""
    batches = open_batches(config.batches, paths)
    start = begin(config, batches, paths, OBJECTIVE)
    flow = BlockwiseFlow(
        times=Times(**config.times.model_dump()), blocks=FrameBlocks(**start.model.config.frame_blocks)
    )
    program = BlockCausalProgram(start.model, Feed(batches, config.caption_dropout), flow)
    facts = facts_of(batches, OBJECTIVE, config.times.model_dump(mode="json"))
    rollout = CausalFlow(times=flow.times, blocks=flow.blocks)
    told = {**weighed_by(config.times), **asdict(flow.blocks)}
    ladder = ladder_of(config, paths, Climber(start.model, rollout, OBJECTIVE, told))
    checks = checks_of(config, paths, start.model, rollout, recorder=ladder)
    course = Course(program, facts, batches.samples, ladder, checks)
    return train_program(paths.checkpoints.name, start, course, config, paths)
