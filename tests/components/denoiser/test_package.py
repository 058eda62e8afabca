"""Stage `package`: the parts become a pipeline that generates, or a mismatch is named before that."""

import shutil
from dataclasses import asdict, replace

import pytest
import torch

from components.artifacts import StagePaths, sha256_of
from components.denoiser.facts import TrainingFacts
from components.denoiser.package import run
from components.errors import ContractError
from components.evaluation.config import SamplerConfig
from models.diffusion import InputChannels, Times, VPrediction
from models.generation.pipeline import TextToVideoPipeline
from models.generation.rollout import CausalFlow
from models.text import EncoderRecord
from models.transformers.causal import FrameBlocks
from models.transformers.presets import preset
from models.transformers.video_transformer import VideoTransformer
from tests.tiny_parts import tiny_codec, tiny_text, tiny_transformer

TIMES = {
    "distribution": "logit-normal",
    "mean": 0.0,
    "std": 1.0,
    "shift": True,
    "shift_scale": 1.5,
    "base_resolution": 32,
}
SAMPLER = SamplerConfig(steps=2, guidance=2.5)


@pytest.fixture
def parts(tmp_path):
    """Folders of a trained transformer, its autoencoder and its text encoder, and the facts that bind them."""
    names = ("transformer", "autoencoder", "text")
    folders = {name: tmp_path / "artifacts" / name for name in names}
    codec = tiny_codec()
    codec.save_pretrained(folders["autoencoder"])
    tiny_transformer().save_pretrained(folders["transformer"])
    text = EncoderRecord.read(tiny_text(folders["text"]))
    facts = TrainingFacts(
        objective="flow",
        autoencoder=codec.contract(),
        text={"digest": text.digest, "width": 32, "max_tokens": text.max_tokens},
        times=TIMES,
        fps=8,
        shapes=[[1, 32, 32], [7, 16, 16], [7, 24, 16]],
    )
    facts.write(folders["transformer"])
    paths = StagePaths(
        tmp_path, folders, {"pipeline": tmp_path / "artifacts/pipeline"}, tmp_path / "checkpoints"
    )
    return paths, facts


def test_the_packaged_pipeline_generates_what_the_model_was_trained_on(parts):
    paths, _ = parts
    run(SAMPLER, paths)
    pipeline = TextToVideoPipeline.from_pretrained(paths.outputs["pipeline"])
    assert pipeline(["a red circle"]).shape == (1, 7, 24, 16, 3)
    assert (pipeline.defaults.steps, pipeline.defaults.guidance_scale, pipeline.defaults.fps) == (2, 2.5, 8)
    assert (pipeline.times.shift, pipeline.times.shift_scale, pipeline.times.base_resolution) == (
        True,
        1.5,
        32,
    )


def test_packaging_twice_gives_the_same_bytes_without_copying_weights(parts):
    paths, _ = parts
    run(SAMPLER, paths)
    first = sha256_of(paths.outputs["pipeline"])
    run(SAMPLER, paths)
    assert sha256_of(paths.outputs["pipeline"]) == first
    weights = next(paths.inputs["transformer"].glob("*.safetensors"))
    assert weights.samefile(paths.outputs["pipeline"] / "transformer" / weights.name)


def test_another_autoencoder_is_refused(parts):
    paths, _ = parts
    tiny_codec(seed=1).save_pretrained(paths.inputs["autoencoder"])
    with pytest.raises(ContractError, match=r"another autoencoder \(weights_sha256"):
        run(SAMPLER, paths)
    assert not paths.outputs["pipeline"].exists()


def test_another_text_encoder_is_refused(parts):
    paths, facts = parts
    replace(facts, text={**facts.text, "digest": "0" * 64}).write(paths.inputs["transformer"])
    with pytest.raises(ContractError, match="text encoder 000000000000"):
        run(SAMPLER, paths)


def test_an_image_model_is_refused(parts):
    paths, facts = parts
    replace(facts, objective="epsilon", times=None).write(paths.inputs["transformer"])
    with pytest.raises(ContractError, match="epsilon"):
        run(SAMPLER, paths)


def test_a_transformer_without_facts_is_refused(parts):
    paths, _ = parts
    (paths.inputs["transformer"] / "training.json").unlink()
    with pytest.raises(ContractError, match=r"training\.json is missing"):
        run(SAMPLER, paths)


def trained_with(paths, facts, transformer, **changes):
    """The parts with another transformer and the facts that go with it."""
    folder = paths.inputs["transformer"]
    shutil.rmtree(folder)
    transformer.save_pretrained(folder)
    replace(facts, **changes).write(folder)


def test_a_model_of_v_prediction_is_packaged_with_its_schedule_channels_and_rescale(parts):
    paths, facts = parts
    diffusion = VPrediction(channels=InputChannels(estimate=True, frames=True), self_conditioning=0.9)
    config = {**tiny_transformer().config, "in_channels": 13, "out_channels": 4}
    model = VideoTransformer.from_config(config)
    trained_with(paths, facts, model, objective="v_prediction", times=asdict(diffusion))
    run(SAMPLER, paths)
    pipeline = TextToVideoPipeline.from_pretrained(paths.outputs["pipeline"])
    assert pipeline.times == diffusion
    assert pipeline.defaults.guidance_rescale == 0.7
    first = pipeline(["a red circle"])
    assert first.shape == (1, 7, 24, 16, 3)
    going_on = pipeline(["a red circle"], given=first[:, :1], seed=3)
    assert (going_on.astype(int)[:, 0] - first[:, 0]).std() < (
        going_on.astype(int)[:, -1] - first[:, 0]
    ).std()


def test_a_causal_model_is_packaged_to_make_its_blocks_one_after_the_other(parts):
    paths, facts = parts
    text_width, text_tokens = facts.text["width"], facts.text["max_tokens"]
    sizes = {
        "in_channels": 4,
        "out_channels": 4,
        "caption_channels": text_width,
        "max_text_tokens": text_tokens,
    }
    torch.manual_seed(0)
    model = preset("causal-5b-tiny", frame_blocks={"size": 2, "first": 1}, **sizes)
    trained_with(paths, facts, model, objective="teacher_forcing")
    run(SAMPLER, paths)
    pipeline = TextToVideoPipeline.from_pretrained(paths.outputs["pipeline"])
    assert pipeline.times == CausalFlow(times=Times(**TIMES), blocks=FrameBlocks(size=2, first=1))
    seen = []
    video = pipeline(["a red circle"], progress=lambda done, total: seen.append((done, total)))
    assert video.shape == (1, 7, 24, 16, 3)
    # latent frames: a block of one, then blocks of two, cut at the end
    assert seen == [(1, 4), (3, 4), (4, 4)]
    longer = pipeline(["a red circle"], num_frames=11)
    assert longer.shape[1] == 11
