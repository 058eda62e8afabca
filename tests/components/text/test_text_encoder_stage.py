"""Stage `text_encoder`: a tiny encoder that knows the captions' words, or a record of the one that was named."""

import pyarrow as pa
import pytest
import torch

from components.artifacts import StagePaths, sha256_of
from components.data import store
from components.errors import UserError
from components.text.config import TextEncoderConfig, TinyT5Config
from components.text.encoder import run, scene_words
from models.text import TextEncoder
from tests.tiny_parts import CAPTIONS, tiny_text

TINY = TinyT5Config(width=32, layers=1, heads=2, vocabulary=512, seed=1)
MADE = TextEncoderConfig(weights=None, max_tokens=12, tiny=TINY)


@pytest.fixture
def paths(tmp_path):
    """A workspace whose clip table holds three kept training clips, one dropped and one for validation."""
    rows = [
        ("0a", "train", True, CAPTIONS[0]),
        ("0b", "train", True, CAPTIONS[1]),
        ("0c", "train", True, "an otter swims"),
        ("0d", "train", False, "a droppedword"),
        ("0e", "validation", True, "a heldoutword"),
    ]
    names = ("clip_id", "split", "kept", "caption")
    table = pa.table(dict(zip(names, map(list, zip(*rows, strict=True)), strict=True)))
    manifest = tmp_path / "artifacts/clips/dedup.json"
    store.create(tmp_path, "clips", table, "dedup").write(manifest)
    return StagePaths(
        root=tmp_path,
        inputs={"clips": manifest},
        outputs={"text": tmp_path / "artifacts/text_encoder"},
        checkpoints=tmp_path / "checkpoints",
    )


def pieces(paths: StagePaths, text: str) -> list[str]:
    return TextEncoder.from_pretrained(paths.outputs["text"]).tokenizer.tokenize(text)


def test_the_tiny_encoder_knows_the_words_of_kept_training_clips_and_of_scenes(paths):
    report = run(MADE, paths)
    assert pieces(paths, "an otter swims") == ["▁an", "▁otter", "▁swims"]
    assert pieces(paths, "yellow triangle") == ["▁yellow", "▁triangle"]
    assert len(pieces(paths, "droppedword")) > 5
    assert len(pieces(paths, "heldoutword")) > 5
    assert report.counts["captions"] == 3
    assert report.counts["words"] == report.counts["words_in_vocabulary"] == 16
    assert {"red", "circle", "left", "stone"} <= scene_words()


def test_it_knows_the_words_of_scores_where_captions_say_them(paths):
    clips = paths.inputs["clips"]
    captions = store.read(paths.root, clips, ["clip_id", "caption"])
    scored = [f"{text}. camera motion: tilt up." for text in captions["caption"].to_pylist()]
    table = pa.table({"clip_id": captions["clip_id"], "scored_caption": scored})
    store.add_columns(paths.root, clips, table, "caption").write(clips)
    run(MADE, paths)
    assert {"▁camera", "▁motion", "▁tilt", "▁up"} <= set(pieces(paths, "camera motion tilt up otter"))


def test_the_same_clips_give_the_same_bytes(paths):
    run(MADE, paths)
    first = sha256_of(paths.outputs["text"])
    run(MADE, paths)
    assert sha256_of(paths.outputs["text"]) == first


def test_a_named_encoder_is_recorded_and_not_copied(paths):
    tiny_text(paths.root / "weights/t5")
    report = run(MADE.model_copy(update={"weights": "weights/t5", "max_tokens": 7}), paths)
    assert [file.name for file in paths.outputs["text"].iterdir()] == ["text_encoder.json"]
    assert str(paths.root) not in (paths.outputs["text"] / "text_encoder.json").read_text()
    through, direct = (
        TextEncoder.from_pretrained(f) for f in (paths.outputs["text"], paths.root / "weights/t5")
    )
    assert (through.max_tokens, through.digest) == (7, direct.digest)
    same = torch.isclose(through.encode(CAPTIONS)[0][:, :5], direct.encode(CAPTIONS)[0][:, :5], atol=1e-5)
    assert same.shape == (2, 5, 32)
    assert report.metrics["width"] == 32


def test_a_folder_that_is_no_encoder_is_a_user_error(paths):
    with pytest.raises(UserError, match=r"text_encoder\.weights: .*config\.json"):
        run(MADE.model_copy(update={"weights": "weights/none"}), paths)
    assert not paths.outputs["text"].exists()


def test_a_geometry_that_cannot_be_built_is_a_user_error(paths):
    odd = TINY.model_copy(update={"heads": 3})
    with pytest.raises(UserError, match="does not divide into 3 heads"):
        run(MADE.model_copy(update={"tiny": odd}), paths)
