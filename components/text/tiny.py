"""The small text encoder of a laptop run: a T5 with random weights and a word vocabulary.

A frozen random encoder is enough to condition a small model: each word keeps an embedding of its own, which
the residual path of T5 carries to the output, and the relative positions tell one word order from another.
What it cannot do is know that two words mean the same. The vocabulary is a function of word counts, without
the randomised pruning of a trained one, so that equal captions give equal files.
"""

import math
import re
import string
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import Unigram
from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel

from components.errors import UserError
from components.text.config import TinyT5Config

PAD, END, UNKNOWN = "<pad>", "</s>", "<unk>"  # ids 0, 1, 2, as in every T5
SPACE = "▁"
BYTES = tuple(f"<0x{value:02X}>" for value in range(256))
CHARACTERS = string.ascii_lowercase + string.digits + ",.;:!?'\"()-%/&"
CHARACTER_SCORE = -50.0  # so low that a known word is never spelled
BYTE_SCORE = -100.0
WORD = re.compile(r"\w+")

Pieces = list[tuple[str, float]]


def words_of(text: str) -> list[str]:
    """The words of a text as the vocabulary counts them."""
    return WORD.findall(normalizers.NFKC().normalize_str(text).lower())


def vocabulary(captions: Iterable[str], always: Iterable[str], size: int) -> Pieces:
    """At most `size` pieces with scores: special tokens, bytes, characters, `always`, then the commonest words.

    Raises `UserError` when not even what must be there fits.
    """
    counts = Counter(word for caption in captions for word in words_of(caption))
    first = sorted(set(always))
    common = [word for word, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))]
    words = [*first, *(word for word in common if word not in set(first))]
    fixed = [(token, 0.0) for token in (PAD, END, UNKNOWN)]
    fixed += [(token, BYTE_SCORE) for token in BYTES]
    fixed += [(character, CHARACTER_SCORE) for character in SPACE + CHARACTERS]
    needed = len(fixed) + len(first)
    if size < needed:
        raise UserError(f"text_encoder.tiny.vocabulary is {size}; it must be at least {needed}")
    total = sum(counts.values()) + len(words)
    kept = words[: size - len(fixed)]
    return fixed + [(SPACE + word, math.log((counts[word] + 1) / total)) for word in kept]


def build_tokenizer(pieces: Pieces, max_tokens: int) -> PreTrainedTokenizerFast:
    """A Unigram tokenizer over these pieces; what it does not know is spelled in characters, then in bytes."""
    tokenizer = Tokenizer(Unigram(pieces, unk_id=2, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.WhitespaceSplit(),
            pre_tokenizers.Metaspace(replacement=SPACE, prepend_scheme="always"),
        ]
    )
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace(replacement=SPACE)])
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A {END}", pair=f"$A {END} $B {END}", special_tokens=[(END, 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=END,
        unk_token=UNKNOWN,
        model_max_length=max_tokens,
        padding_side="right",
        truncation_side="right",
    )


def build_model(config: TinyT5Config, pieces: int) -> T5EncoderModel:
    """A T5 v1.1 encoder with random weights that depend on the seed alone.

    What the blocks write into the residual path is scaled by (2 layers)^-0.5 over T5's own initialisation,
    as in GPT-2, so that the word stays the strongest part of its output at any depth.
    """
    if config.width % config.heads:
        raise UserError(
            f"text_encoder.tiny: width {config.width} does not divide into {config.heads} heads; change one"
        )
    geometry = T5Config(
        vocab_size=pieces,
        d_model=config.width,
        d_kv=config.width // config.heads,
        d_ff=2 * config.width,
        num_layers=config.layers,
        num_heads=config.heads,
        dropout_rate=0.0,
        feed_forward_proj="gated-gelu",
        is_encoder_decoder=False,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = T5EncoderModel(geometry)
    for name, parameter in model.named_parameters():
        if name.endswith((".o.weight", ".wo.weight")):
            parameter.data.mul_((2 * config.layers) ** -0.5)
    return model


def write_tiny(folder: Path, config: TinyT5Config, pieces: Pieces, max_tokens: int) -> None:
    """Encoder and tokenizer in the transformers layout; equal arguments give equal bytes."""
    build_model(config, len(pieces)).save_pretrained(folder)
    build_tokenizer(pieces, max_tokens).save_pretrained(folder / "tokenizer")
