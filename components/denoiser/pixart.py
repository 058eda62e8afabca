"""Stage `pixart`: the text-to-image model that video starts from, trained here or taken from a checkpoint."""

import logging
from pathlib import Path
from typing import Any

import torch
from diffusers import PixArtTransformer2DModel
from torch import Tensor

from components.artifacts import StagePaths, fresh_folder
from components.data.buckets import area_of
from components.data.loader import LatentBatches
from components.denoiser.config import PixArtConfig
from components.denoiser.epsilon import EpsilonProgram
from components.denoiser.facts import TrainingFacts
from components.denoiser.fixed_losses import from_noise
from components.denoiser.held_out import held_out_checks
from components.denoiser.latent_inputs import channels_of, facts_of, open_batches
from components.denoiser.programs import Feed
from components.denoiser.weights import CONFIG, read_image_model, write_null_caption
from components.errors import ContractError
from components.report import Report
from components.runtime import is_main_process
from components.training import processes
from components.training.averages import each_average
from components.training.checkpoint import fingerprint_of, remove_checkpoints
from components.training.curves import reported, write_csv
from components.training.loop import train
from models.diffusion.pixart import PixArtDenoiser
from models.files import link_file, link_tree
from models.text import TextEncoder

log = logging.getLogger(__name__)


def run(config: PixArtConfig, paths: StagePaths) -> Report:
    """Train a PixArt on still-image latents, or check and link the one that `weights` names.

    Raises `ContractError` where given weights do not go with the latents or the text encoder.
    """
    batches = open_batches(config.batches, paths)
    facts = facts_of(batches, "epsilon", times=None)
    null_caption = TextEncoder.from_pretrained(paths.input("text")).encode([""])[0][0]
    if config.weights is not None:
        return _import(Path(config.weights), null_caption, facts, paths)
    processes.require_samples(batches.samples, str(paths.input("latents")))
    if config.preview.steps:
        log.warning("pixart: there are no previews of the image model; the adaptation steps can make some")
    denoiser = PixArtDenoiser(_new_model(config, batches), null_caption)
    program = EpsilonProgram(denoiser, Feed(batches, config.caption_dropout))
    checks = held_out_checks(config, paths, from_noise(program.diffusion))
    identity = fingerprint_of(config, paths)
    result = train(program, config, paths, fingerprint=identity, title="pixart", checks=checks)
    if is_main_process():
        with fresh_folder(paths.output("transformer")) as folder:
            denoiser.transformer.save_pretrained(folder)
            write_null_caption(folder, null_caption)
            facts.write(folder)
            for name in each_average(program.module, result.other_averages):
                denoiser.transformer.save_pretrained(folder / name)
        remove_checkpoints(paths)
    counts = {"samples": batches.samples}
    return Report(
        "pixart",
        metrics=result.metrics(),
        counts=counts,
        quarantine=result.quarantine(),
        looks=reported(result.looks),
    )


def geometry(config: PixArtConfig, batches: LatentBatches) -> dict[str, Any]:
    """Arguments of diffusers' model for these latents: PixArt-Sigma with a learned variance."""
    model, channels = config.model, channels_of(batches)
    side = max(area_of(family.resolution) for family in batches.families) ** 0.5
    tokens = round(side / batches.store.manifest.contract["spatial_stride"] / model.patch)
    return {
        "num_attention_heads": model.heads,
        "attention_head_dim": model.head_width,
        "cross_attention_dim": model.heads * model.head_width,
        "num_layers": model.depth,
        "patch_size": model.patch,
        "in_channels": channels,
        "out_channels": 2 * channels,
        "sample_size": tokens * model.patch,  # positions count from a square of the largest resolution
        "caption_channels": batches.store.manifest.text.width,
        "use_additional_conditions": False,
    }


def _new_model(config: PixArtConfig, batches: LatentBatches) -> PixArtTransformer2DModel:
    """A model with the initial weights of `config.seed`."""
    torch.manual_seed(config.seed)
    return PixArtTransformer2DModel(**geometry(config, batches))


def _import(source: Path, null_caption: Tensor, facts: TrainingFacts, paths: StagePaths) -> Report:
    """Link the weights at `source` under this stage's output; nothing is trained."""
    with fresh_folder(paths.output("transformer")) as folder:
        if source.is_dir():
            link_tree(source, folder)
            write_null_caption(folder, null_caption)
        else:
            link_file(source, folder / source.name)
        found = read_image_model(folder)
        expected = {
            "in_channels": facts.autoencoder["channels"],
            "caption_channels": facts.text["width"],
        }
        wrong = [
            f"{key} {found.config[key]}, not {need}"
            for key, need in expected.items()
            if found.config[key] != need
        ]
        if wrong:
            raise ContractError(
                f"{source} has {'; '.join(wrong)}: it was made for another autoencoder or text encoder; set"
                " `autoencoder.image.weights` and `text_encoder.weights` to the ones it belongs to"
            )
        facts.write(folder)
    write_csv([], paths.output("curve"))
    parameters = sum(value.numel() for value in found.state.values())
    kind = "diffusers" if (paths.output("transformer") / CONFIG).is_file() else "original"
    return Report(
        "pixart", metrics={"steps": 0, "parameters": parameters}, notes=[f"imported, {kind} layout"]
    )
