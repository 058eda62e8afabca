"""Scores from CLIP with tiny random weights in the published format, against a direct computation."""

import itertools
import json

import numpy as np
import pytest
import torch
import transformers
from effect_files import make
from footage_workspace import ROOT
from PIL import Image

from components.data.config import Scorer
from components.data.footage_effects import Kind
from components.data.looks import Job
from components.data.scorers import check_weights, frames_at, score_clip
from components.errors import UserError
from components.params import Params

CONFIG = Params.load(ROOT / "params.yaml").score
WORDS = ("a", "red", "circle", "moves", "left", "over", "grey", "stone")


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory):
    """A CLIP model as `save_pretrained` writes it, with a vocabulary of letters."""
    folder = tmp_path_factory.mktemp("clip")
    letters = [chr(code) for code in range(97, 123)]
    tokens = [
        *letters,
        "re",
        "red</w>",
        *(f"{letter}</w>" for letter in letters),
        "<|startoftext|>",
        "<|endoftext|>",
    ]
    (folder / "vocab.json").write_text(json.dumps({token: index for index, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\nr e\nre d</w>\n")
    torch.manual_seed(6)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = transformers.CLIPConfig(
        text_config={
            **sizes,
            "vocab_size": len(tokens),
            "max_position_embeddings": 24,
            "bos_token_id": len(tokens) - 2,
            "eos_token_id": len(tokens) - 1,
        },
        vision_config={**sizes, "image_size": 28, "patch_size": 7},
        projection_dim=768,
    )
    transformers.CLIPModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def head(tmp_path_factory):
    """The published head: linear layers between dropouts, which leave gaps in their numbers."""
    widths = (768, 1024, 128, 64, 16, 1)
    torch.manual_seed(7)
    state = {}
    for number, (inputs, outputs) in zip((0, 2, 4, 6, 7), itertools.pairwise(widths), strict=True):
        state[f"layers.{number}.weight"] = torch.randn(outputs, inputs) / inputs**0.5
        state[f"layers.{number}.bias"] = 0.1 * torch.randn(outputs)
    path = tmp_path_factory.mktemp("head") / "head.pth"
    torch.save(state, path)
    return path


@pytest.fixture(scope="module")
def job(tmp_path_factory, clip_folder, head):
    (made,) = make(tmp_path_factory.mktemp("film"), Kind.PLAIN, files=1, seed=503, scenes=1)
    off = dict.fromkeys(("motion", "sharpness", "text", "brightness"), Scorer.DISABLE)
    config = CONFIG.model_copy(
        update={
            **off,
            "aesthetic": Scorer.ENABLE,
            "match": Scorer.SCORE_ONLY,
            "clip_weights": str(clip_folder),
            "aesthetic_weights": str(head),
            "captions": "captions.csv",
        }
    )
    ((start, end),) = made.plan.bounds
    return Job(made.path, start, end, 24.0, config, caption="a red circle")


def preprocessed(frame, size):
    """By Pillow, as the published preprocessing does it."""
    picture = Image.fromarray(frame)
    scale = size / min(picture.size)
    wide = picture.resize([int(side * scale) for side in picture.size], Image.Resampling.BICUBIC)
    left, top = (wide.width - size) // 2, (wide.height - size) // 2
    pixels = np.asarray(wide.crop((left, top, left + size, top + size))) / 255
    mean, deviation = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
    return torch.tensor((pixels - mean) / deviation).permute(2, 0, 1).float()


def test_aesthetic_and_match_are_the_published_computation(job, clip_folder, head):
    found = score_clip(job)
    model = transformers.CLIPModel.from_pretrained(clip_folder).eval()
    tokenizer = transformers.CLIPTokenizer.from_pretrained(clip_folder)
    pixels = torch.stack([preprocessed(frame, 28) for frame in frames_at(job, (0.1, 0.5, 0.9))])
    with torch.no_grad():
        output = model(pixel_values=pixels, **tokenizer("a red circle", return_tensors="pt"))
        vectors = output.image_embeds / output.image_embeds.norm(dim=1, keepdim=True)
        rated = vectors
        state = torch.load(head, weights_only=True)
        for number in (0, 2, 4, 6, 7):
            rated = rated @ state[f"layers.{number}.weight"].T + state[f"layers.{number}.bias"]
    assert found["aesthetic"] == pytest.approx(float(rated.mean()), abs=5e-3)
    assert found["match"] == pytest.approx(float(output.logits_per_image[1, 0]), abs=0.05)
    assert set(found) == {"aesthetic", "match"}


def test_a_clip_without_a_caption_has_no_match(job):
    config = job.config.model_copy(update={"aesthetic": Scorer.DISABLE})
    bare = Job(job.path, job.start, job.end, job.fps, config)
    assert score_clip(bare) == {"match": None}


@pytest.mark.parametrize("name", ["clip_weights", "aesthetic_weights"])
def test_missing_weights_are_named_before_work_starts(job, name):
    check_weights(job.config)
    with pytest.raises(UserError, match=f"score.{name}: nowhere is no"):
        check_weights(job.config.model_copy(update={name: "nowhere"}))


def test_a_scorer_without_its_paths_is_refused_by_the_parameters():
    with pytest.raises(ValueError, match="needs clip_weights and aesthetic_weights"):
        type(CONFIG).model_validate({**CONFIG.model_dump(), "aesthetic": "enable"})


def test_other_weights_are_refused(job, tmp_path):
    from components.data.aesthetic import load_head

    torch.save({"something": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(UserError, match="does not hold the LAION aesthetic head"):
        load_head(tmp_path / "other.pth")
