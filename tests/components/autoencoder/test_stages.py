"""The four stages on six small clips, three steps each: what they write, keep and refuse."""

import pytest
import torch
from diffusers import AutoencoderKL

from components.artifacts import read_json, sha256_of
from components.autoencoder import image, temporal
from components.autoencoder.config import AutoencoderConfig
from components.errors import UserError
from components.params import Params
from models.autoencoders import load_autoencoder
from models.autoencoders.causal3d import CausalAutoencoder
from tests.tiny_clips import ROOT, make_clips, stage_paths

SHARED = {
    "steps": 3,
    "seed": 1,
    "optimizer": {"lr": 1e-3},
    "precision": "fp32",
    "data": {"height": 16, "width": 16, "fps": 8, "frames": 5, "batch": 2},
    "loss": {"l1": 0.3, "mse": 1.0, "saturation": 2.0, "kl": 1e-6},
}
LATENTS = {"target": "latents", "train_image_autoencoder": False, "image_share": 0.5, "mixed_lengths": False}
IMAGE = {"channels": (8, 8), "layers_per_level": 1, "latent_channels": 4, "norm_groups": 4, "patch": 2}
TEMPORAL = {
    "filters": 8,
    "multipliers": (1, 1),
    "blocks": 1,
    "temporal_downsample": (True,),
    "norm_groups": 4,
    "chunk_frames": 5,
}
CONFIG = {
    "image": {**SHARED, "data": {**SHARED["data"], "frames": 1}, "model": IMAGE},
    "stage1": {**SHARED, **LATENTS, "identity": True, "model": TEMPORAL},
    "stage2": {**SHARED, **LATENTS, "identity": False},
    "stage3": {
        **SHARED,
        "target": "pixels",
        "identity": False,
        "train_image_autoencoder": True,
        "image_share": 0.0,
        "mixed_lengths": True,
    },
}
CAUSAL = {
    "filters": 8,
    "multipliers": (1, 1, 1),
    "blocks": 1,
    "spatial_downsample": (True, True),
    "temporal_downsample": (False, True),
    "latent_channels": 6,
    "norm_groups": 4,
}
BEFORE = {"image": None, "stage1": "image", "stage2": "stage1", "stage3": "stage2"}


def paths_of(root, name):
    inputs = {"clips": "artifacts/clips/dedup.json", "videos": "data/footage"}
    if BEFORE[name]:
        inputs["autoencoder"] = f"artifacts/autoencoder/{BEFORE[name]}"
    outputs = {"autoencoder": f"artifacts/autoencoder/{name}", "curve": f"curves/autoencoder@{name}.csv"}
    return stage_paths(root, inputs, outputs, f"autoencoder@{name}")


def run(root, name, config=None):
    stage = image if name == "image" else temporal
    return stage.run(getattr(config or AutoencoderConfig.model_validate(CONFIG), name), paths_of(root, name))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    root = tmp_path_factory.mktemp("autoencoder")
    make_clips(root)
    return root, {name: run(root, name) for name in BEFORE}


def codec_of(root, name):
    return load_autoencoder(root / "artifacts" / "autoencoder" / name)


@pytest.mark.parametrize("name", list(BEFORE))
def test_a_stage_writes_codec_contract_curve_and_report(finished, name):
    root, reports = finished
    folder = root / "artifacts" / "autoencoder" / name
    assert read_json(folder / "contract.json") == codec_of(root, name).contract()
    assert (root / "curves" / f"autoencoder@{name}.csv").read_text().startswith("step,")
    report = reports[name]
    assert report.stage == f"autoencoder@{name}"
    assert report.metrics["steps"] == 3
    assert 0 < report.metrics["psnr"] < 40
    assert report.counts == {"train_clips": 4, "held_out_clips": 2}
    assert not (root / "checkpoints" / f"autoencoder@{name}").exists()


def test_latents_get_shorter_in_the_temporal_stages(finished):
    root, _ = finished
    assert codec_of(root, "image").geometry.latent_shape(5, 16, 16) == (4, 5, 4, 4)
    assert codec_of(root, "stage1").geometry.latent_shape(5, 16, 16) == (4, 3, 4, 4)


def test_only_the_last_stage_changes_the_2d_autoencoder(finished):
    root, _ = finished
    weights = {name: sha256_of(root / "artifacts" / "autoencoder" / name / "spatial") for name in BEFORE}
    assert weights["image"] == weights["stage1"] == weights["stage2"]
    assert weights["stage2"] != weights["stage3"]
    temporal_weights = [
        sha256_of(root / "artifacts" / "autoencoder" / name / "temporal")
        for name in ("stage1", "stage2", "stage3")
    ]
    assert len(set(temporal_weights)) == 3


def test_2d_statistics_go_with_the_video_autoencoder(finished):
    root, _ = finished
    assert codec_of(root, "stage3").image.statistics() == codec_of(root, "image").statistics()


def test_equal_inputs_give_equal_outputs(finished):
    root, reports = finished
    outputs = [root / "artifacts" / "autoencoder" / "stage1", root / "curves" / "autoencoder@stage1.csv"]
    before = [sha256_of(path) for path in outputs]
    assert run(root, "stage1") == reports["stage1"]
    assert [sha256_of(path) for path in outputs] == before


def test_given_weights_are_taken_as_they_are(tmp_path):
    make_clips(tmp_path, validation=())
    torch.manual_seed(0)
    published = AutoencoderKL(
        block_out_channels=(8,), norm_num_groups=4, latent_channels=4, scaling_factor=0.25
    )
    published.save_pretrained(tmp_path / "weights" / "vae")
    section = {**CONFIG["image"], "weights": "weights/vae"}
    report = run(tmp_path, "image", AutoencoderConfig.model_validate({**CONFIG, "image": section}))
    codec = codec_of(tmp_path, "image")
    torch.testing.assert_close(dict(codec.spatial.state_dict()), dict(published.state_dict()))
    assert codec.scale.tolist() == [4.0] * 4
    assert report.metrics["steps"] == 0
    assert report.notes == ["no validation clips: PSNR was measured on training clips"]
    assert (tmp_path / "curves" / "autoencoder@image.csv").read_text() == "step,loss,grad_norm,lr\n"


def test_weights_that_are_not_there_are_refused_by_name(tmp_path):
    make_clips(tmp_path)
    for name in ("image", "stage1"):
        section = {**CONFIG[name], "weights": "weights/nothing"}
        config = AutoencoderConfig.model_validate({**CONFIG, name: section})
        with pytest.raises(UserError, match="weights/nothing"):
            run(tmp_path, name, config)


def test_a_temporal_model_that_does_not_fit_is_refused_before_training(finished):
    root, _ = finished
    section = {**CONFIG["stage2"], "model": {**TEMPORAL, "filters": 16}}
    with pytest.raises(UserError, match="leave `model` out"):
        run(root, "stage2", AutoencoderConfig.model_validate({**CONFIG, "stage2": section}))
    with pytest.raises(ValueError, match=r"latent_channels is 8, and image\.model makes 4"):
        section = {**CONFIG["stage1"], "model": {**TEMPORAL, "latent_channels": 8}}
        AutoencoderConfig.model_validate({**CONFIG, "stage1": section})
    with pytest.raises(ValueError, match=r"give stage1\.model"):
        AutoencoderConfig.model_validate({**CONFIG, "stage1": {**CONFIG["stage1"], "model": None}})


def test_the_temporal_stages_train_a_causal_3d_autoencoder_on_pixels_instead(tmp_path):
    make_clips(tmp_path)
    pixels = {"target": "pixels", "identity": False, "mixed_lengths": True}
    later = {name: {**CONFIG[name], **pixels} for name in ("stage2", "stage3")}
    causal = {**CONFIG, "stage1": {**CONFIG["stage1"], **pixels, "model": CAUSAL}, **later}
    config = AutoencoderConfig.model_validate(causal)
    for name in BEFORE:
        run(tmp_path, name, config)
    first, last = (codec_of(tmp_path, name) for name in ("stage1", "stage3"))
    assert isinstance(last, CausalAutoencoder)
    assert last.geometry.latent_shape(5, 16, 16) == (6, 3, 4, 4)
    assert first.contract()["weights_sha256"] != last.contract()["weights_sha256"]
    latents = {**CONFIG["stage2"], "target": "latents"}
    with pytest.raises(UserError, match="no 2D latents"):
        run(tmp_path, "stage2", AutoencoderConfig.model_validate({**causal, "stage2": latents}))
    with pytest.raises(ValueError, match="set target to pixels"):
        stage1 = {**CONFIG["stage1"], "target": "latents", "model": CAUSAL}
        AutoencoderConfig.model_validate({**causal, "stage1": stage1})


@pytest.mark.parametrize("path", sorted((ROOT / "recipes").glob("*.yaml")), ids=lambda path: path.stem)
def test_recipes_describe_stages_that_follow_from_one_another(path):
    config = Params.load(path).autoencoder
    if config is None:  # a system with an autoencoder of its own
        assert Params.load(path).candidate.autoencoder != "artifacts/autoencoder/stage3"
        return
    assert config.stage1.model is not None
    assert config.stage2.model is None
    assert config.stage3.model is None
