"""A vision-language model from a folder: a tiny LLaVA made here, through the library's own pipeline."""

import cv2
import numpy as np
import pytest

from components.data.captioning.local import LocalModel, check_weights
from components.data.captions import CaptionProblem
from components.data.config import VisionConfig
from components.data.pool import RejectedError
from components.errors import UserError

WORDS = ("<pad>", "<s>", "</s>", "<unk>", "<image>", "a", "red", "cat", "runs", "what", "is", "seen", "?")
TEMPLATE = (
    "{% for m in messages %}{% for c in m['content'] %}"
    "{% if c['type'] == 'image' %}<image> {% else %}{{ c['text'] }}{% endif %}{% endfor %}{% endfor %}"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import (
        CLIPImageProcessor,
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
        PreTrainedTokenizerFast,
    )

    path = tmp_path_factory.mktemp("llava")
    tokens = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    tokens.pre_tokenizer = pre_tokenizers.Split(" ", "removed")
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=tokens,
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        pad_token="<pad>",
        additional_special_tokens=["<image>"],
    )
    images = CLIPImageProcessor(
        size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28}, do_center_crop=True
    )
    LlavaProcessor(
        images,
        tokenizer,
        patch_size=14,
        vision_feature_select_strategy="default",
        chat_template=TEMPLATE,
        num_additional_image_tokens=1,
    ).save_pretrained(path)
    torch.manual_seed(0)
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(
            hidden_size=16,
            intermediate_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            image_size=28,
            patch_size=14,
        ),
        text_config=LlamaConfig(
            vocab_size=len(WORDS),
            hidden_size=16,
            intermediate_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
        ),
        image_token_index=4,
        image_seq_length=4,
    )
    LlavaForConditionalGeneration(config).eval().save_pretrained(path)
    return path


def pictures(count):
    pixels = np.random.default_rng(1).integers(0, 255, (count, 40, 60, 3), dtype=np.uint8)
    return [cv2.imencode(".jpg", each)[1].tobytes() for each in pixels]


def config(**more):
    return VisionConfig(weights="llava", prompt="what is seen ?", max_tokens=6, **more)


def test_a_folder_of_weights_captions_pictures_in_its_own_words(folder):
    model = LocalModel(folder, config())
    said = model(pictures(3))
    assert set(said.split()) <= set(WORDS)
    assert "what is seen" not in said  # the answer alone, without the question
    assert model(pictures(3)) == said
    assert model.requests == 2


def test_the_budget_holds_here_too(folder):
    model = LocalModel(folder, config(max_requests=0))
    with pytest.raises(RejectedError) as rejected:
        model(pictures(1))
    assert rejected.value.reason == CaptionProblem.OVER_BUDGET


def test_a_folder_of_something_else_is_refused(folder, tmp_path):
    with pytest.raises(UserError, match=r"no config\.json"):
        check_weights(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match="cannot be loaded"):
        LocalModel(tmp_path, config())
