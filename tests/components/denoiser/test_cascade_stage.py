"""Stage `walt_cascade`: models that follow each other become one folder, others are refused before that."""

from dataclasses import asdict, replace

import pytest

from components.artifacts import StagePaths, sha256_of
from components.denoiser.cascade import run
from components.denoiser.facts import TrainingFacts
from components.denoiser.system_config import CascadeConfig
from components.errors import ContractError
from models.generation.cascade import Cascade
from models.generation.folder import load_generator
from models.text import EncoderRecord
from models.transformers.video_transformer import VideoTransformer
from tests.models.generation.test_cascade import DIFFUSION, upsampler
from tests.tiny_parts import tiny_codec, tiny_text, tiny_transformer

CONFIG = CascadeConfig(noise_times=(100, 50), sampler={"steps": 2, "guidance": 2.0})
UPSAMPLING = {"low_resolution": "20px", "max_noise_time": 300}


@pytest.fixture
def paths(tmp_path):
    names = ("transformer", "super_resolution_1", "super_resolution_2", "autoencoder", "text")
    folders = {name: tmp_path / "artifacts" / name for name in names}
    codec = tiny_codec()
    codec.save_pretrained(folders["autoencoder"])
    text = EncoderRecord.read(tiny_text(folders["text"]))
    base = VideoTransformer.from_config({**tiny_transformer().config, "in_channels": 13, "out_channels": 4})
    facts = TrainingFacts(
        objective="v_prediction",
        autoencoder=codec.contract(),
        text={"digest": text.digest, "width": 32, "max_tokens": text.max_tokens},
        times=asdict(DIFFUSION),
        fps=8,
        shapes=[[7, 16, 24]],
    )
    models = (base, upsampler((4, 4, 6), 1), upsampler((4, 8, 12), 2))
    for number, (name, model) in enumerate(zip(names, models, strict=False)):
        model.save_pretrained(folders[name])
        shapes = [[7, 16 * 2**number, 24 * 2**number]]
        replace(facts, shapes=shapes, upsampling=UPSAMPLING if number else None).write(folders[name])
    return StagePaths(
        tmp_path, folders, {"pipeline": tmp_path / "cascade"}, tmp_path / "checkpoints/walt_cascade"
    )


def test_the_folder_generates_at_four_times_the_size(paths):
    report = run(CONFIG, paths)
    assert report.notes == ["7 frames of 64x96 at 8 fps"]
    cascade = load_generator(paths.outputs["pipeline"])
    assert isinstance(cascade, Cascade)
    assert [stage.refinement.noise_time for stage in cascade.stages] == [100, 50]
    assert cascade(["a red circle"]).shape == (1, 7, 64, 96, 3)


def test_the_same_parts_give_the_same_bytes_without_copying_weights(paths):
    run(CONFIG, paths)
    first = sha256_of(paths.outputs["pipeline"])
    run(CONFIG, paths)
    assert sha256_of(paths.outputs["pipeline"]) == first
    weights = next(paths.inputs["super_resolution_2"].glob("*.safetensors"))
    linked = paths.outputs["pipeline"] / "super_resolution_2/transformer" / weights.name
    assert weights.samefile(linked)


def change(paths, name, **changes):
    folder = paths.inputs[name]
    replace(TrainingFacts.read(folder), **changes).write(folder)


@pytest.mark.parametrize(
    ("name", "changes", "said"),
    [
        ("super_resolution_1", {"upsampling": None}, "is no super-resolution model"),
        ("super_resolution_2", {"shapes": [[7, 32, 48]]}, "none of which is twice the size"),
        ("super_resolution_2", {"upsampling": {**UPSAMPLING, "max_noise_time": 20}}, "asks for 50; lower it"),
        ("super_resolution_1", {"text": {"digest": "0" * 64}}, "text encoder 000000000000"),
        ("transformer", {"autoencoder": {"weights_sha256": "0"}}, "another autoencoder"),
    ],
    ids=["no upsampling", "size", "noise", "text encoder", "autoencoder"],
)
def test_models_that_do_not_follow_each_other_are_refused(paths, name, changes, said):
    change(paths, name, **changes)
    with pytest.raises(ContractError, match=said):
        run(CONFIG, paths)
    assert not paths.outputs["pipeline"].exists()
