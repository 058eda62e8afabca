"""Stage `package`: the parts become a pipeline that generates, or a mismatch is named before that."""

from dataclasses import replace

import pytest

from components.artifacts import StagePaths, sha256_of
from components.denoiser.facts import TrainingFacts
from components.denoiser.package import run
from components.errors import ContractError
from components.evaluation.config import SamplerConfig
from models.generation.pipeline import TextToVideoPipeline
from models.text import EncoderRecord
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
