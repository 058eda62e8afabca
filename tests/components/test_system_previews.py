"""Previews of every system: made the way its objective makes videos, of the size of the stage's buckets."""

import io

import av
import numpy as np
import pytest
import torch

from components.adaptation import step
from components.denoiser import pixart
from models.autoencoders.causal3d import CausalAutoencoder
from models.autoencoders.config import CausalAutoencoderConfig, ImageAutoencoderConfig
from models.autoencoders.image import ImageAutoencoder
from models.diffusion import InputChannels, VPrediction
from models.generation.layout import Settings
from models.generation.pipeline import TextToVideoPipeline
from models.generation.video_file import WATCHABLE_SIDE, to_mp4
from models.text import TextEncoder
from models.transformers.video_transformer import VideoTransformer
from tests.components.adaptation import test_steps
from tests.tiny_latents import make_latents, make_text, stage_paths
from tests.tiny_systems import CHANNELS, KINDS, ROOT, Workspace, make_system_latents

PREVIEW = {"steps": 2, "sampling_steps": 2, "guidance": 2.0, "prompts": ["a red circle", "a blue square"]}
CODEC = {
    "filters": 8,
    "multipliers": (1, 1, 1),
    "blocks": 1,
    "spatial_downsample": (True, True),
    "temporal_downsample": (False, True),
    "latent_channels": CHANNELS,
    "norm_groups": 4,
}
GRID = {"positions": {"kind": "learned", "grid": [5, 4, 6]}} | {
    "pattern": {"spatial": {"size": [1, 4, 6]}, "spatiotemporal": {"size": [5, 2, 3]}}
}
STAGES = {  # stage -> model, buckets, size of a preview
    "hdvila@stage1": ({"preset": "hdvila-hourglass-tiny"}, {"16px": {9: (1.0, 4)}}, (9, 16, 16)),
    "causal@stage1": (
        {"preset": "causal-5b-tiny", "changes": {"frame_blocks": {"size": 2, "first": 1}}},
        {"16px": {1: (1.0, 4), 9: (1.0, 4)}},
        (9, 16, 16),
    ),
    "walt@base": ({"preset": "walt-t2v-l-tiny"}, {"16px": {1: (1.0, 5), 9: (1.0, 4)}}, (9, 16, 16)),
    "walt@super_resolution_1": (
        {"preset": "walt-sr-2x-tiny", "changes": GRID},
        {"39px": {1: (1.0, 5), 9: (1.0, 4)}},
        (9, 32, 48),
    ),
}


def workspace_with_codec(root):
    """Latents that claim to come from a codec, which lies where the parameters name it."""
    torch.manual_seed(0)
    codec = CausalAutoencoder(CausalAutoencoderConfig(**CODEC)).eval()
    codec.set_statistics([0.0] * CHANNELS, [1.0] * CHANNELS)
    workspace = Workspace(root, held_out=2)
    make_system_latents(root, KINDS, codec.contract(), held_out=2)
    (root / "params.yaml").write_text((ROOT / "recipes/walt_tiny.yaml").read_text())
    codec.save_pretrained(root / "artifacts/walt/autoencoder")
    return workspace, codec


def frames_of(mp4):
    with av.open(io.BytesIO(mp4)) as file:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]).astype(float)


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_shows_one_video_for_each_prompt(tmp_path, stage):
    model, buckets, (frames, height, width) = STAGES[stage]
    workspace, codec = workspace_with_codec(tmp_path)
    paths = workspace.run(stage, buckets, model=model, steps=2, preview=PREVIEW)
    made = sorted((tmp_path / "previews" / stage).iterdir())
    assert [path.name for path in made] == ["step-000002-00.mp4", "step-000002-01.mp4"]
    videos = [frames_of(path.read_bytes()) for path in made]
    for video in videos:
        assert len(video) == frames
        assert video.shape[1] * width == pytest.approx(video.shape[2] * height, rel=0.05)
    if stage != "walt@base":
        return
    pipeline = TextToVideoPipeline(
        transformer=VideoTransformer.from_pretrained(paths.output("transformer")),
        codec=codec,
        text_encoder=TextEncoder.from_pretrained(tmp_path / "artifacts/text_encoder"),
        times=VPrediction(channels=InputChannels(estimate=True, frames=True), self_conditioning=0.9),
        defaults=Settings(
            height=height,
            width=width,
            num_frames=frames,
            fps=8,
            steps=2,
            guidance_scale=2.0,
            guidance_rescale=0.7,
            seed=1,
        ),
    )
    for video, expected in zip(videos, pipeline(PREVIEW["prompts"]), strict=True):
        assert np.abs(video - frames_of(to_mp4(expected, 8, least_side=WATCHABLE_SIDE))).mean() < 0.5


def test_a_step_of_noise_prediction_shows_pictures_by_the_autoencoder_of_its_latents(tmp_path):
    """That of images, which is not the one that is packaged in the end."""
    config = ImageAutoencoderConfig(channels=(8, 8, 8), layers_per_level=1, latent_channels=4, norm_groups=4)
    codec = ImageAutoencoder.build(config)
    codec.set_statistics([0.0] * 4, [1.0] * 4)
    codec.save_pretrained(tmp_path / "artifacts/autoencoder/image")
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    make_text(tmp_path)
    images = make_latents(tmp_path, "images", [(1, 16, 16)], codec=codec.contract())
    first, second = tmp_path / "artifacts/pixart", tmp_path / "artifacts/adapt/multi_resolution"
    pixart.run(test_steps.pixart_config(), stage_paths(tmp_path, "pixart", None, images, first))
    paths = stage_paths(tmp_path, "adapt@multi_resolution", first, images, second)
    step.run(test_steps.step_config("multi_resolution", preview=PREVIEW), paths)
    made = sorted(path.name for path in (tmp_path / "previews/adapt@multi_resolution").iterdir())
    assert made == ["step-000002-00.png", "step-000002-01.png"]
