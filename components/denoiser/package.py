"""Stage `package`: the trained parts become one folder that generates video.

Weights are linked, not copied. What the denoiser was trained on decides the defaults, and is checked
against the autoencoder and the text encoder before anything is put together.
"""

from dataclasses import fields

from components.artifacts import StagePaths, fresh_folder
from components.denoiser.facts import TrainingFacts
from components.errors import ContractError
from components.evaluation.config import SamplerConfig
from components.report import Report
from models.autoencoders import load_autoencoder
from models.diffusion.times import Times
from models.files import link_tree
from models.generation import layout
from models.generation.layout import Settings
from models.text import EncoderRecord, save_encoder


def run(config: SamplerConfig, paths: StagePaths) -> Report:
    """Put transformer, autoencoder, text encoder and sampler settings into one pipeline folder.

    Raises `ContractError` if the transformer was trained with another autoencoder or text encoder.
    """
    transformer, autoencoder, text = (paths.input(name) for name in ("transformer", "autoencoder", "text"))
    facts = TrainingFacts.read(transformer)
    if facts.objective != "flow":
        raise ContractError(
            f"{transformer} was trained with the {facts.objective} objective; package needs flow"
        )
    record = EncoderRecord.read(text)
    facts.expect(codec=load_autoencoder(autoencoder).contract(), text_digest=record.digest)
    times, settings = sampling_times(facts), default_settings(facts, config)
    with fresh_folder(paths.output("pipeline")) as folder:
        link_tree(transformer, folder / layout.TRANSFORMER)
        link_tree(autoencoder, folder / layout.CODEC)
        save_encoder(text, folder / layout.TEXT)
        layout.write_settings(folder, times, settings)
        size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    return Report(
        "package",
        metrics={"bytes": size, "steps": settings.steps, "guidance": settings.guidance_scale},
        notes=[
            f"default: {settings.num_frames} frames of {settings.height}x{settings.width} at {settings.fps} fps"
        ],
    )


def sampling_times(facts: TrainingFacts) -> Times:
    """The times of training, whose transform sampling must share."""
    known = {field.name for field in fields(Times)}
    return Times(**{name: value for name, value in (facts.times or {}).items() if name in known})


def default_settings(facts: TrainingFacts, config: SamplerConfig) -> Settings:
    """Defaults of the pipeline: the longest clips it was trained on, at the largest of their sizes."""
    frames, height, width = max(facts.shapes, key=lambda shape: (shape[0], shape[1] * shape[2]))
    return Settings(
        height=height,
        width=width,
        num_frames=frames,
        fps=facts.fps,
        steps=config.steps,
        guidance_scale=config.guidance,
    )
