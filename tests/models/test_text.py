"""Text encoder: embeddings keep words apart, padding is inert, and a folder is known by what is in it."""

import json
import shutil

import pytest
import torch
from torch.nn.functional import normalize
from transformers import T5Config, UMT5Config, UMT5EncoderModel

from components.text.config import TinyT5Config
from components.text.encoder import scene_words
from components.text.tiny import build_tokenizer, vocabulary, words_of, write_tiny
from models.text import RECORD, EncoderFolder, EncoderRecord, TextEncoder, save_encoder
from tests.tiny_parts import CAPTIONS, MAX_TOKENS, tiny_text

DEMO = TinyT5Config(width=64, layers=2, heads=4, vocabulary=512, seed=1)
COLOURS, SHAPES, MOTIONS = ("red", "green", "blue"), ("circle", "square"), ("left", "right", "up")
SENTENCES = [
    f"a {colour} {shape} moves {motion} over grey stone"
    for colour in COLOURS
    for shape in SHAPES
    for motion in MOTIONS
]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return TextEncoder.from_pretrained(tiny_text(tmp_path_factory.mktemp("text")))


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """The encoder of the default parameters."""
    folder = tmp_path_factory.mktemp("demo")
    write_tiny(folder, DEMO, vocabulary(SENTENCES, scene_words(), DEMO.vocabulary), 24)
    return TextEncoder.from_pretrained(folder)


def test_embeddings_are_padded_masked_and_zero_behind_the_mask(encoder):
    embeddings, mask = encoder.encode(["a red circle", ""])
    assert embeddings.shape == (2, MAX_TOKENS, encoder.width)
    assert embeddings.dtype == torch.float32
    assert mask.tolist() == [[True] * 4 + [False] * 8, [True] + [False] * 11]  # words and the end token
    assert (embeddings[~mask] == 0).all()
    assert (embeddings[mask].abs().sum(dim=-1) > 0).all()


def test_a_prompt_is_embedded_alike_in_any_company(encoder):
    alone, _ = encoder.encode([CAPTIONS[0]])
    among, _ = encoder.encode(["", "blue " * 40, CAPTIONS[0]], batch=2)
    assert torch.allclose(alone[0], among[2], atol=1e-5)


def test_a_long_prompt_is_cut_and_keeps_its_end_token(encoder):
    tokens = encoder.tokenizer("blue " * 40, truncation=True, max_length=MAX_TOKENS).input_ids
    assert len(tokens) == MAX_TOKENS
    assert tokens[-1] == encoder.tokenizer.eos_token_id
    _, mask = encoder.encode(["blue " * 40])
    assert mask.all()


def test_no_prompts_give_no_embeddings(encoder):
    embeddings, mask = encoder.encode([])
    assert embeddings.shape == (0, MAX_TOKENS, encoder.width)
    assert mask.shape == (0, MAX_TOKENS)


def test_one_string_is_refused(encoder):
    with pytest.raises(ValueError, match="list"):
        encoder.encode("a red circle")


def test_captions_that_differ_in_one_word_are_far_apart(demo):
    embeddings, mask = demo.encode(SENTENCES)
    pooled = embeddings.sum(dim=1) / mask.sum(dim=1, keepdim=True)
    centred = normalize(pooled - pooled.mean(dim=0), dim=-1)
    cosine = centred @ centred.T
    words = [set(sentence.split()) for sentence in SENTENCES]
    for i, one in enumerate(words):
        for j in range(i):
            if len(one - words[j]) == 1:
                assert cosine[i, j] < 0.8, (SENTENCES[i], SENTENCES[j])


def test_a_word_is_nearest_to_itself_in_every_context(demo):
    embeddings, mask = demo.encode(SENTENCES)
    words = [[*sentence.split(), "</s>"] for sentence in SENTENCES]
    labels = [word for sentence in words for word in sentence]
    vectors = normalize(embeddings[mask], dim=-1)  # (tokens, D)
    assert len(labels) == len(vectors)
    table = normalize(demo.model.shared.weight, dim=-1)  # (pieces, D)
    nearest = (vectors @ table.T).argmax(dim=-1)
    found = [piece.removeprefix("▁") for piece in demo.tokenizer.convert_ids_to_tokens(nearest)]
    assert found == labels


def test_word_order_changes_the_embeddings(demo):
    embeddings, _ = demo.encode(["red circle blue square", "blue circle red square"])
    ids = demo.tokenizer("red circle blue square").input_ids
    assert len(ids) == 5
    assert not torch.allclose(embeddings[0, 1], embeddings[1, 1], atol=1e-2)  # "circle" after red, after blue


def test_capitals_and_punctuation_do_not_change_a_word(demo):
    tokens = [demo.tokenizer.tokenize(text) for text in ("A red circle", "a RED Circle,")]
    assert tokens[0] == ["▁a", "▁red", "▁circle"]
    assert tokens[1] == [*tokens[0], ","]


@pytest.mark.parametrize("text", ["zebra crossing", "año 2026 – 東京", "🦓!"])
def test_unknown_words_are_spelled_without_loss(demo, text):
    ids = demo.tokenizer(text).input_ids
    assert demo.tokenizer.unk_token_id not in ids
    assert demo.tokenizer.decode(ids, skip_special_tokens=True) == text


def test_the_vocabulary_keeps_the_commonest_words_that_fit():
    captions = ["alpha beta beta", "gamma gamma gamma beta"]
    pieces = [piece for piece, _ in vocabulary(captions, ["always"], 1000)]
    assert pieces[:3] == ["<pad>", "</s>", "<unk>"]
    fixed = len(pieces) - 4
    small = [piece for piece, _ in vocabulary(captions, ["always"], fixed + 2)]
    assert small[-2:] in (["▁always", "▁beta"], ["▁always", "▁gamma"])
    assert pieces[-4:] == ["▁always", "▁beta", "▁gamma", "▁alpha"]


def test_a_vocabulary_without_room_is_refused():
    with pytest.raises(ValueError, match="must be at least"):
        vocabulary([], ["red"], 300)


def test_words_are_what_the_tokenizer_sees():
    assert words_of("A Red-ish circle; 2nd.") == ["a", "red", "ish", "circle", "2nd"]


def test_equal_arguments_write_equal_bytes(tmp_path):
    folders = [tiny_text(tmp_path / name) for name in ("one", "two")]
    contents = [
        {file.relative_to(folder): file.read_bytes() for file in folder.rglob("*") if file.is_file()}
        for folder in folders
    ]
    assert contents[0] == contents[1]


def test_the_digest_knows_weights_and_vocabulary_and_nothing_else(tmp_path):
    plain = EncoderFolder.find(tiny_text(tmp_path / "plain")).digest()
    other_seed = EncoderFolder.find(tiny_text(tmp_path / "seed", seed=2)).digest()
    other_words = EncoderFolder.find(tiny_text(tmp_path / "words", captions=["green tea"])).digest()
    assert len({plain, other_seed, other_words}) == 3
    (tmp_path / "plain/tokenizer/notes.txt").write_text("unrelated")
    assert EncoderFolder.find(tmp_path / "plain").digest() == plain


def test_a_folder_without_a_record_is_used_as_it_is(tmp_path):
    folder = tiny_text(tmp_path / "text")
    recorded = TextEncoder.from_pretrained(folder)
    (folder / RECORD).unlink()
    bare = TextEncoder.from_pretrained(folder)
    assert (bare.digest, bare.max_tokens) == (recorded.digest, MAX_TOKENS)


def test_the_tokenizer_may_lie_beside_the_encoder_as_in_diffusers(tmp_path):
    tiny_text(tmp_path / "text_encoder")
    (tmp_path / "text_encoder/tokenizer").rename(tmp_path / "tokenizer")
    (tmp_path / "text_encoder" / RECORD).unlink()
    embeddings, _ = TextEncoder.from_pretrained(tmp_path / "text_encoder").encode(["a red circle"])
    assert embeddings.shape == (1, MAX_TOKENS, 32)


def test_saving_keeps_digest_and_embeddings(tmp_path, encoder):
    encoder.save_pretrained(tmp_path / "copy")
    copy = TextEncoder.from_pretrained(tmp_path / "copy")
    assert copy.digest == encoder.digest
    assert torch.equal(copy.encode(CAPTIONS)[0], encoder.encode(CAPTIONS)[0])


def test_a_reference_becomes_a_folder_of_its_own(tmp_path):
    weights = tiny_text(tmp_path / "weights/t5")
    record = EncoderRecord.read(weights)
    reference = tmp_path / "artifacts/text"
    reference.mkdir(parents=True)
    EncoderRecord("../../weights/t5", "../../weights/t5/tokenizer", 5, record.digest, record.sizes).write(
        reference
    )
    save_encoder(reference, tmp_path / "whole")
    shutil.rmtree(tmp_path / "weights")
    whole = TextEncoder.from_pretrained(tmp_path / "whole")
    assert whole.encode(["a red circle"])[0].shape == (1, 5, 32)
    assert whole.digest == record.digest


def test_changed_weights_are_noticed(tmp_path):
    folder = tiny_text(tmp_path / "text")
    tiny_text(tmp_path / "other", captions=["green tea and a long list of further words"])
    shutil.copy(tmp_path / "other/tokenizer/tokenizer.json", folder / "tokenizer/tokenizer.json")
    with pytest.raises(ValueError, match="not the encoder recorded"):
        TextEncoder.from_pretrained(folder)


def test_other_encoders_of_the_family_load(tmp_path):
    torch.manual_seed(0)
    config = UMT5Config(vocab_size=400, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    UMT5EncoderModel(config).save_pretrained(tmp_path)
    build_tokenizer(vocabulary(CAPTIONS, (), 400), 7).save_pretrained(tmp_path)
    encoder = TextEncoder.from_pretrained(tmp_path)
    assert type(encoder.model) is UMT5EncoderModel
    assert encoder.encode(CAPTIONS)[0].shape == (2, 7, 16)


def test_what_is_no_encoder_is_named_with_the_way_out(tmp_path):
    with pytest.raises(ValueError, match="transformers layout"):
        TextEncoder.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(ValueError, match="save the tokenizer"):
        TextEncoder.from_pretrained(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ValueError, match="type bert"):
        TextEncoder.from_pretrained(tmp_path)
    T5Config().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="no weights"):
        TextEncoder.from_pretrained(tmp_path)
