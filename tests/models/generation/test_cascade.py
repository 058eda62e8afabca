"""A cascade: each model starts from the latents of the one before, and the last latents are decoded once."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from models.diffusion import InputChannels, VPrediction
from models.files import link_tree
from models.generation import layout
from models.generation.cascade import BASE, STAGE, Cascade, Refinement, SuperResolution, write_cascade
from models.generation.folder import load_generator
from models.generation.pipeline import TextToVideoPipeline
from models.transformers.presets import preset
from tests.tiny_parts import CAPTIONS, MAX_TOKENS

DIFFUSION = VPrediction(channels=InputChannels(estimate=True, frames=True), self_conditioning=0.9)
REFINEMENT = Refinement(noise_time=100, steps=2, guidance_scale=2.0, guidance_rescale=0.7)


def upsampler(grid, seed, **changes):
    """A super-resolution model for 4 channels on a grid of tokens, every weight drawn."""
    torch.manual_seed(seed)
    frames, rows, columns = grid
    model = preset(
        "walt-sr-2x-tiny",
        in_channels=13,
        out_channels=4,
        low_resolution_channels=4,
        max_text_tokens=MAX_TOKENS,
        positions={"kind": "learned", "grid": list(grid)},
        pattern={"spatial": {"size": [1, rows, columns]}, "spatiotemporal": {"size": [frames, 2, 2]}},
        **changes,
    )
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.05)
    return model


@pytest.fixture(scope="module")
def stages():
    """16x24 px are 4x6 latents of the tiny autoencoder, of 7 frames 5; the two models make 8x12 and 16x24 of them."""
    return [
        SuperResolution(upsampler((4, 4, 6), 1), DIFFUSION, REFINEMENT),
        SuperResolution(upsampler((4, 8, 12), 2), DIFFUSION, REFINEMENT),
    ]


@pytest.fixture(scope="module")
def cascade(pipeline, stages):
    assert pipeline.codec.geometry.latent_frames(7) == 4
    return Cascade(pipeline, stages)


def test_each_model_doubles_height_and_width(cascade):
    videos = cascade(CAPTIONS)
    assert videos.shape == (2, 7, 64, 96, 3)
    assert cascade.size == (64, 96)


def test_videos_of_a_batch_do_not_depend_on_each_other(cascade):
    together = cascade(CAPTIONS, seed=5).astype(int)
    apart = [cascade(CAPTIONS[index : index + 1], seed=5 + index)[0] for index in range(2)]
    assert np.abs(together - np.stack(apart)).max() <= 1


def test_the_last_video_follows_from_every_stage(cascade, pipeline, stages):
    whole = cascade(CAPTIONS[:1])
    other = replace(stages[1], transformer=upsampler((4, 8, 12), 3))
    assert not np.array_equal(Cascade(pipeline, [stages[0], other])(CAPTIONS[:1]), whole)
    first = replace(stages[0], refinement=replace(REFINEMENT, noise_time=300))
    assert not np.array_equal(Cascade(pipeline, [first, stages[1]])(CAPTIONS[:1]), whole)
    assert not np.array_equal(cascade(CAPTIONS[:1], seed=9), whole)


@torch.no_grad()
def test_a_model_is_given_the_latents_before_it_with_noise_of_the_time_it_is_told(cascade, stages):
    seen = {}

    def note(_module, _inputs, more):
        seen.update(more)

    handle = stages[0].transformer.register_forward_pre_hook(note, with_kwargs=True)
    latents = torch.randn(1, 4, 4, 4, 6, generator=torch.Generator().manual_seed(1))
    settings = replace(cascade.defaults, height=32, width=48)
    cascade.refine(stages[0], latents, CAPTIONS[:1], settings)
    handle.remove()
    assert seen["t_sr"].tolist() == [100, 100]  # with and without the caption
    signal = DIFFUSION.schedule.signal()[100].float()
    noise = (seen["low_resolution"] - signal.sqrt() * latents) / (1 - signal).sqrt()
    assert torch.equal(noise[0], noise[1])
    assert abs(noise.std() - 1) < 0.15


def test_a_cascade_comes_back_from_its_folder(cascade, pipeline, stages, tmp_path):
    parts = tmp_path / "parts"
    pipeline.save_pretrained(parts / "base")
    folder = tmp_path / "cascade"
    link_tree(parts / "base", folder / BASE)
    for number, stage in enumerate(stages, start=1):
        stage.transformer.save_pretrained(folder / STAGE.format(number) / layout.TRANSFORMER)
    write_cascade(folder, [(stage.diffusion, stage.refinement) for stage in stages])
    loaded = load_generator(folder)
    assert isinstance(loaded, Cascade)
    assert np.array_equal(loaded(CAPTIONS[:1]), cascade(CAPTIONS[:1]))
    assert isinstance(load_generator(parts / "base"), TextToVideoPipeline)


def test_progress_reaches_the_end_over_all_models(cascade):
    seen = []
    cascade(CAPTIONS[:1], progress=lambda done, total: seen.append(done / total))
    assert seen == sorted(seen)
    assert seen[-1] == 1.0


def test_a_model_for_other_latents_is_refused(pipeline):
    wrong = upsampler((4, 4, 6), 1)
    wrong.register_to_config(low_resolution_channels=8)
    with pytest.raises(ValueError, match="reads 8 channels of the model before it, which has 4"):
        Cascade(pipeline, [SuperResolution(wrong, DIFFUSION, REFINEMENT)])


def test_a_folder_that_generates_nothing_is_named(tmp_path):
    with pytest.raises(ValueError, match="generates nothing"):
        load_generator(tmp_path)
