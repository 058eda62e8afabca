"""The validation of autoencoders while they train: fixed, without the adversary, and what `best` is chosen by."""

import json

import pytest
import torch

from components.autoencoder import stage as autoencoder_stage
from components.autoencoder.adversary import Adversary
from components.autoencoder.config import AdversarialConfig, AutoencoderConfig
from components.autoencoder.held_out import HeldOutReconstruction
from components.autoencoder.objectives import PixelObjective
from components.data.clips import read_clips
from components.data.frame_batches import FrameBatches
from components.training.config import ValidationConfig
from models.autoencoders.causal3d import CausalAutoencoder
from models.autoencoders.config import CausalAutoencoderConfig
from tests.components.autoencoder.test_stages import CAUSAL, CONFIG, paths_of, run
from tests.tiny_clips import make_clips

VALIDATION = {"steps": 1, "samples": 2, "times": 1, "seed": 5}


def clips_of(root, split):
    paths = paths_of(root, "image")
    found = read_clips(paths.input("clips"), root=root, videos=paths.place("videos"))
    return [clip for clip in found if clip.split == split]


def test_loss_and_psnr_are_those_of_the_definition(tmp_path):
    """L1 and squared error, weighted by saturation, and the divergence from a unit Gaussian; PSNR in decibels."""
    make_clips(tmp_path)
    section = AutoencoderConfig.model_validate(CONFIG).stage3
    torch.manual_seed(0)
    codec = CausalAutoencoder(CausalAutoencoderConfig(**CAUSAL, gaussian=True)).eval()
    adversary = Adversary(AdversarialConfig(loss="hinge", weight=1.0, r1=1.0), (5, 16, 16))
    objective = PixelObjective(codec, section.loss, adversary=adversary)
    batches = FrameBatches(clips_of(tmp_path, "validation"), section.data, 1)
    check = HeldOutReconstruction(objective, batches, ValidationConfig(**VALIDATION))
    with torch.no_grad():
        found = check.look(objective, 1).metrics
        expected = {}
        for length in (1, 5):
            frames = batches.batch(0, frames=length)
            mean, logvar = codec.moments(frames).chunk(2, dim=1)
            logvar = logvar.clamp(-30, 20)
            drawn = torch.randn(mean.shape, generator=torch.Generator().manual_seed(5))
            output = codec.decode_raw(mean + (logvar / 2).exp() * drawn, length)
            error, spread = output - frames, (frames.amax(1) - frames.amin(1))[:, None] / 2
            weighted = (0.3 * error.abs() + error.square()) * (1 + 2.0 * spread)
            divergence = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).sum(dim=(1, 2, 3, 4))
            loss = weighted.mean() + 1e-6 * divergence.mean() / (3 * 16 * 16 * length)
            plain = codec.decode_raw(mean, length).clamp(-1, 1)
            psnr = (10 * torch.log10(4 / (plain - frames).square().flatten(1).mean(1))).mean()
            expected[f"val/loss_{length}x16x16"] = float(loss)
            expected[f"val/psnr_{length}x16x16"] = float(psnr)
    for kind in ("loss", "psnr"):
        expected[f"val/{kind}"] = sum(expected[f"val/{kind}_{length}x16x16"] for length in (1, 5)) / 2
    assert set(found) == set(expected)
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=1e-4), name


@pytest.mark.parametrize("name", ["image", "stage1", "stage3"])
def test_every_stage_looks_and_keeps_the_best_by_what_it_sees(tmp_path, name, caplog, monkeypatch):
    make_clips(tmp_path)
    caplog.set_level("INFO")
    for before in ("image", "stage1", "stage2"):
        if before == name:
            break
        run(tmp_path, before)
    monkeypatch.setattr(autoencoder_stage, "remove_checkpoints", lambda _paths: None)
    more = {"steps": 4, "checkpoint_steps": 1, "keep_last_n": 4, "validation": VALIDATION}
    config = AutoencoderConfig.model_validate({**CONFIG, name: {**CONFIG[name], **more}})
    caplog.clear()
    run(tmp_path, name, config)
    looks = [record.message.split() for record in caplog.records if "val/loss" in record.message]
    assert [words[1] for words in looks] == ["1/4", "2/4", "3/4", "4/4"]
    assert {word for word in looks[0] if word.startswith("val/psnr")} >= {"val/psnr", "val/psnr_1x16x16"}
    losses = [float(words[words.index("val/loss") + 1]) for words in looks]
    best = json.loads((paths_of(tmp_path, name).checkpoints / "best.json").read_text())
    assert best["score"] == pytest.approx(min(losses), rel=1e-3)
    assert losses[best["step"] - 1] == min(losses)


def test_looking_changes_nothing_and_previews_are_written(tmp_path):
    outputs = []
    for kind, more in {
        "blind": {},
        "seeing": {"validation": VALIDATION, "preview": {"steps": 3}},
    }.items():
        root = tmp_path / kind
        root.mkdir()
        make_clips(root)
        run(root, "image", AutoencoderConfig.model_validate({**CONFIG, "image": {**CONFIG["image"], **more}}))
        codec = autoencoder_stage.CONTRACT
        outputs.append((root / "artifacts/autoencoder/image" / codec).read_text())
    assert outputs[0] == outputs[1]
    made = sorted(path.name for path in (tmp_path / "seeing/previews/autoencoder@image").iterdir())
    assert made == ["step-000003-00.png", "step-000003-01.png"]
    assert not (tmp_path / "blind/previews").exists()
