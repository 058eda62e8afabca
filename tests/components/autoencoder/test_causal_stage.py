"""The stage of a causal 3D autoencoder with every term of MAGVIT-v2's training: GAN, R1, LeCAM, perceptual."""

import pytest
import torch
from safetensors.torch import load_file

from components.autoencoder import causal
from components.autoencoder.config import CausalStageConfig
from components.autoencoder.program import AutoencoderProgram
from components.errors import UserError
from models.autoencoders import load_autoencoder
from tests.components.autoencoder.test_adversary import STAGE
from tests.tiny_clips import make_clips, stage_paths

LEVELS = ((4, 4), (6, 6))
CONVOLUTIONS = (0, 2, 5, 7)  # torchvision's numbers of VGG16's first four


def config(root, **changes):
    torch.manual_seed(0)
    widths = [width for level in LEVELS for width in level]
    vgg = {}
    for number, before, after in zip(CONVOLUTIONS, (3, *widths), widths, strict=False):
        vgg[f"features.{number}.weight"] = torch.randn(after, before, 3, 3) / (9 * before) ** 0.5
        vgg[f"features.{number}.bias"] = torch.zeros(after)
    heads = {f"lin{i}.model.1.weight": torch.rand(1, level[-1], 1, 1) for i, level in enumerate(LEVELS)}
    (root / "weights").mkdir(exist_ok=True)
    torch.save(vgg, root / "weights" / "vgg16.pth")
    torch.save(heads, root / "weights" / "lpips.pth")
    terms = {
        "perceptual": {
            "weight": 0.1,
            "vgg": "weights/vgg16.pth",
            "heads": "weights/lpips.pth",
            "levels": LEVELS,
        },
        "adversarial": {
            "loss": "non-saturating",
            "weight": 0.1,
            "r1": 10,
            "lecam": 0.001,
            "lecam_decay": 0.9,
            "model": {"filters": 4, "multipliers": (2, 2)},
        },
        "optimizer": {"lr": 1e-3, "betas": (0.0, 0.99)},
        "precision": "fp32",
        "checkpoint_steps": 2,
        "log_steps": 2,
    }
    return CausalStageConfig.model_validate({**STAGE, **terms, **changes})


def run(root, section):
    outputs = {"autoencoder": "artifacts/walt/autoencoder", "curve": "curves/walt.csv"}
    inputs = {"clips": "artifacts/clips/dedup.json", "videos": "data/footage"}
    return causal.run(section, stage_paths(root, inputs, outputs, "walt@autoencoder"))


def weights_of(root):
    return load_file(root / "artifacts/walt/autoencoder/model.safetensors")


def test_the_squared_error_halves_with_every_term_in_the_loss(tmp_path):
    make_clips(tmp_path)
    loss = {"l1": 0.0, "mse": 5.0, "saturation": 0.0, "kl": 0.0}
    first = run(tmp_path, config(tmp_path, steps=1, loss=loss))
    assert first.stage == "walt@autoencoder"
    last = run(tmp_path, config(tmp_path, steps=60, loss=loss))
    assert last.metrics["psnr"] > first.metrics["psnr"] + 3.01
    codec = load_autoencoder(tmp_path / "artifacts/walt/autoencoder")
    assert codec.geometry.latent_shape(5, 16, 16) == (4, 3, 8, 8)
    assert not any("discriminator" in name for name in weights_of(tmp_path))


def test_a_stage_that_died_goes_on_to_the_same_weights_with_the_running_means(tmp_path, monkeypatch):
    for name in ("straight", "died"):
        (tmp_path / name).mkdir()
        make_clips(tmp_path / name)
    section = config(tmp_path / "straight", steps=6)
    run(tmp_path / "straight", section)
    config(tmp_path / "died")
    step = AutoencoderProgram.step

    def die(self, module, position, generator, /):
        if position == 5:
            raise RuntimeError("power cut")
        return step(self, module, position, generator)

    with monkeypatch.context() as patched:
        patched.setattr(AutoencoderProgram, "step", die)
        with pytest.raises(RuntimeError, match="power cut"):
            run(tmp_path / "died", section)
    run(tmp_path / "died", section)
    expected = weights_of(tmp_path / "straight")
    assert all(torch.equal(value, expected[name]) for name, value in weights_of(tmp_path / "died").items())


def test_weights_of_another_kind_are_refused(tmp_path):
    make_clips(tmp_path)
    with pytest.raises(UserError, match="weights/nothing"):
        run(tmp_path, config(tmp_path, weights="weights/nothing"))
