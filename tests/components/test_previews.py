"""Videos made while a stage trains are those of the averaged weights at that step, and leave the run as it is."""

import io
import shutil

import av
import numpy as np
import pytest

from components.artifacts import sha256_of
from components.data.latents import LatentManifest
from components.errors import ContractError, UserError
from components.params import Params
from components.previews import write_preview
from components.stages import execute
from models.diffusion.times import Times
from models.generation.layout import Settings
from models.generation.pipeline import TextToVideoPipeline
from models.generation.video_file import WATCHABLE_SIDE, to_mp4
from models.text import TextEncoder
from models.transformers.video_transformer import VideoTransformer
from tests.stage_workspace import STAGE, make_workspace
from tests.tiny_parts import tiny_codec

WEIGHTS = "artifacts/train/stage1/diffusion_pytorch_model.safetensors"
PREVIEW = {
    "steps": 4,
    "prompts": ["a red circle moves left", "a blue square"],
    "frames": 5,
    "sampling_steps": 2,
    "guidance": 2.0,
}
COMMON = {"steps": 8, "checkpoint_steps": 4}


def with_codec(root, **changes):
    """A workspace whose latents claim to come from the tiny autoencoder, which is in its place."""
    return make_workspace(root, latents={"codec": tiny_codec().contract()}, **COMMON, **changes)


def test_previews_are_made_with_the_averaged_weights_and_change_nothing(tmp_path):
    blind, seeing = with_codec(tmp_path / "blind"), with_codec(tmp_path / "seeing", preview=PREVIEW)
    for root in (blind, seeing):
        execute(STAGE, root)
    assert sha256_of(seeing / WEIGHTS) == sha256_of(blind / WEIGHTS)
    made = sorted(path.name for path in (seeing / "previews" / STAGE).iterdir())
    assert made == [f"step-{step:06d}-{number:02d}.mp4" for step in (4, 8) for number in (0, 1)]
    pipeline = TextToVideoPipeline(
        transformer=VideoTransformer.from_pretrained(seeing / "artifacts/train/stage1"),  # the average
        codec=tiny_codec(),
        text_encoder=TextEncoder.from_pretrained(seeing / "artifacts/text_encoder"),
        times=Times(**Params.load(seeing / "params.yaml").section("train.stage1").times.model_dump()),
        defaults=Settings(height=16, width=24, num_frames=5, fps=8, steps=2, guidance_scale=2.0, seed=1),
    )
    expected = pipeline(PREVIEW["prompts"])
    for number, video in enumerate(expected):
        shown = {
            step: (seeing / f"previews/{STAGE}/step-{step:06d}-{number:02d}.mp4").read_bytes()
            for step in (4, 8)
        }
        wanted = frames_of(to_mp4(video, 8, least_side=WATCHABLE_SIDE))
        assert np.abs(frames_of(shown[8]) - wanted).mean() < 0.5
        assert np.abs(frames_of(shown[4]) - wanted).mean() > 0.5


def frames_of(mp4):
    with av.open(io.BytesIO(mp4)) as file:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]).astype(float)


def test_an_autoencoder_that_did_not_make_the_latents_is_refused_before_the_first_step(tmp_path):
    root = make_workspace(tmp_path, **COMMON, preview=PREVIEW)
    shutil.rmtree(root / "artifacts/autoencoder")
    with pytest.raises(UserError, match=r"preview.steps needs the autoencoder .* missing"):
        execute(STAGE, root)
    tiny_codec().save_pretrained(root / "artifacts/autoencoder/stage3")
    with pytest.raises(ContractError, match=r"did not make .*videos.json; name the one that did"):
        execute(STAGE, root)
    assert LatentManifest.read(root / "artifacts/latents/videos.json").contract != tiny_codec().contract()


def test_a_size_that_cannot_be_made_is_refused_before_the_first_step(tmp_path):
    root = with_codec(tmp_path, preview={**PREVIEW, "height": 18})
    with pytest.raises(UserError, match="preview: height 18 is not a multiple of 8"):
        execute(STAGE, root)


def test_one_frame_is_a_picture(tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, (1, 16, 24, 3), dtype=np.uint8)
    path = write_preview(tmp_path / "one", frames, 8)
    with av.open(str(path)) as file:
        (read,) = [frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]
    assert path.suffix == ".png"
    assert (read == frames[0]).all()
