"""Stage `text_encoder`: the folder every later stage reads prompts with, found or made here."""

import os
from pathlib import Path

from components.artifacts import StagePaths, fresh_folder
from components.data import store, synthetic
from components.errors import UserError
from components.report import Report
from components.text.config import TextEncoderConfig
from components.text.tiny import vocabulary, words_of, write_tiny
from models.text import EncoderFolder, EncoderRecord


def run(config: TextEncoderConfig, paths: StagePaths) -> Report:
    """Record the encoder that `weights` names, or make a tiny one from the captions of the clip table.

    Raises `UserError` if `weights` is no encoder, or the tiny one cannot be made as configured.
    """
    output = paths.output("text")
    with fresh_folder(output) as folder:
        if config.weights is None:
            counts = _make(config, paths, folder)
        else:
            counts = {}
            _refer(paths.root / config.weights, config.max_tokens, folder, output)
    record = EncoderRecord.read(output)
    files = record.files(output)
    return Report(
        "text_encoder",
        metrics={"width": files.width, "max_tokens": record.max_tokens, "bytes": sum(record.sizes.values())},
        counts=counts,
        notes=[f"digest {record.digest}"],
    )


def _refer(weights: Path, max_tokens: int, folder: Path, output: Path) -> None:
    """A record that points to the weights: they may be tens of gigabytes, and stay where they are."""
    try:
        files = EncoderFolder.find(weights)
    except ValueError as error:
        raise UserError(f"text_encoder.weights: {error}") from None
    beside = EncoderRecord.of(files, max_tokens)
    places = {"model": files.model, "tokenizer": files.tokenizer}
    relative = {name: Path(os.path.relpath(place, output)).as_posix() for name, place in places.items()}
    EncoderRecord(**relative, max_tokens=max_tokens, digest=beside.digest, sizes=beside.sizes).write(folder)


def _make(config: TextEncoderConfig, paths: StagePaths, folder: Path) -> dict[str, int]:
    """The tiny encoder; returns how many of the captions' words it knows."""
    captions = training_captions(paths)
    pieces = vocabulary(captions, scene_words(), config.tiny.vocabulary)
    write_tiny(folder, config.tiny, pieces, config.max_tokens)
    EncoderRecord.of(EncoderFolder.find(folder), config.max_tokens).write(folder)
    words = {word for caption in captions for word in words_of(caption)}
    known = {piece.removeprefix("▁") for piece, _ in pieces}
    return {
        "captions": len(captions),
        "words": len(words),
        "words_in_vocabulary": len(words & known),
        "pieces": len(pieces),
    }


def training_captions(paths: StagePaths) -> list[str]:
    """Captions of the kept training clips in the order of the clip ids, with scores where clips have such captions."""
    clips = paths.input("clips")
    text = "scored_caption" if "scored_caption" in store.Manifest.read(clips).columns else "caption"
    table = store.read(paths.root, clips, ["split", "kept", text])
    return [row[text] for row in table.to_pylist() if row["kept"] and row["split"] == "train"]


def scene_words() -> set[str]:
    """Every word that a procedural clip can be described with: prompts may use them, whatever the data has."""
    phrases = [
        *synthetic.COLOURS,
        *synthetic.SHAPES,
        *synthetic.MOTIONS,
        *synthetic.BACKGROUNDS,
        *synthetic.CAMERAS,
        *(phrase.replace("{", " ").replace("}", " ") for phrase in synthetic.MOVING_PHRASES),
        *(phrase.replace("{", " ").replace("}", " ") for phrase in synthetic.RESTING_PHRASES),
    ]
    return {word for phrase in phrases for word in words_of(phrase)}
