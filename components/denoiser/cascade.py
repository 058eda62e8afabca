"""Stage `walt_cascade`: base model and super-resolution models become one folder that generates large videos."""

from pathlib import Path

from components.artifacts import StagePaths, fresh_folder
from components.denoiser.facts import TrainingFacts
from components.denoiser.package import Parts, default_settings, sampling_of
from components.denoiser.system_config import CascadeConfig
from components.errors import ContractError
from components.report import Report
from models.diffusion.guidance import GUIDANCE_RESCALE
from models.diffusion.v_prediction import VPrediction
from models.files import link_tree
from models.generation import layout
from models.generation.cascade import BASE, STAGE, Refinement, write_cascade

STAGES = ("super_resolution_1", "super_resolution_2")


def run(config: CascadeConfig, paths: StagePaths) -> Report:
    """Put the models into one folder. Raises `ContractError` where one does not continue the one before it."""
    text, autoencoder = paths.input("text"), paths.input("autoencoder")
    base = Parts(paths.input("transformer"), autoencoder, text)
    facts = base.facts()
    stages, before = [], facts
    for name, noise_time in zip(STAGES, config.noise_times, strict=True):
        transformer = paths.input(name)
        own = Parts(transformer, autoencoder, text).facts()
        _check(own, before, noise_time, transformer)
        diffusion = sampling_of(own, transformer)
        assert isinstance(diffusion, VPrediction)  # `_check` has seen to it
        refinement = Refinement(
            noise_time=noise_time,
            steps=config.sampler.steps,
            guidance_scale=config.sampler.guidance,
            guidance_rescale=GUIDANCE_RESCALE,
        )
        stages.append((diffusion, refinement))
        before = own
    settings = default_settings(facts, config.sampler)
    with fresh_folder(paths.output("pipeline")) as folder:
        base.link(folder / BASE, sampling_of(facts, base.transformer), settings)
        for number, name in enumerate(STAGES, start=1):
            link_tree(paths.input(name), folder / STAGE.format(number) / layout.TRANSFORMER)
        write_cascade(folder, stages)
    scale = 2 ** len(stages)
    size = f"{settings.height * scale}x{settings.width * scale}"
    return Report(
        paths.checkpoints.name, notes=[f"{settings.num_frames} frames of {size} at {settings.fps} fps"]
    )


def _check(own: TrainingFacts, before: TrainingFacts, noise_time: int, transformer: Path) -> None:
    """A super-resolution model must have been trained at twice the size of the model before, with that much noise."""
    if own.upsampling is None:
        raise ContractError(f"{transformer} is no super-resolution model: give its stage `upsampling`")
    doubled = {(frames, 2 * height, 2 * width) for frames, height, width in before.shapes}
    if not doubled & {tuple(shape) for shape in own.shapes}:
        raise ContractError(
            f"{transformer} was trained at {own.shapes}, none of which is twice the size of the model before it,"
            f" {before.shapes}; set the buckets of the two stages to sizes that follow each other"
        )
    if noise_time > own.upsampling["max_noise_time"]:
        raise ContractError(
            f"{transformer} was trained with noise up to time {own.upsampling['max_noise_time']}, and"
            f" cascade.noise_times asks for {noise_time}; lower it"
        )
