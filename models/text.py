"""Prompts to embeddings: T5, mT5 and umT5 encoders through transformers, from a folder on disk.

A folder is either one in the transformers or diffusers layout, or one with a `text_encoder.json` of ours
beside or in place of the weights. That file fixes the number of tokens and names the weights by digest, so
that embeddings made at different times can be told to come from the same encoder. B batch, L tokens, D
width.
"""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from models.files import link_file

RECORD = "text_encoder.json"
FAMILIES = ("t5", "mt5", "umt5")
WEIGHTS = ("*.safetensors", "pytorch_model*.bin")  # the first kind that is there is used
VOCABULARIES = ("tokenizer.json", "spiece.model")
CHUNK_BYTES = 1 << 20
LONGEST = 512  # tokens, where neither a record nor the tokenizer sets a limit


@dataclass(frozen=True)
class EncoderFolder:
    """Where the parts of an encoder lie, which need not be one folder."""

    model: Path  # config.json and weights
    tokenizer: Path

    @classmethod
    def find(cls, folder: Path) -> "EncoderFolder":
        """The encoder in a folder. Raises `ValueError` saying what is missing where."""
        if not (folder / "config.json").is_file():
            raise ValueError(
                f"{folder} has no config.json: give the folder of a T5 encoder in the transformers layout"
            )
        candidates = (folder / "tokenizer", folder, folder.parent / "tokenizer")
        for tokenizer in candidates:
            if any((tokenizer / name).is_file() for name in VOCABULARIES):
                found = cls(folder, tokenizer)
                break
        else:
            looked = ", ".join(str(path) for path in candidates)
            raise ValueError(
                f"no {' or '.join(VOCABULARIES)} in {looked}: save the tokenizer beside the encoder"
            )
        found.check()
        return found

    def check(self) -> None:
        """Raises `ValueError` if these are not the files of a known encoder."""
        kind = self.config.get("model_type")
        if kind not in FAMILIES:
            raise ValueError(
                f"{self.model} holds a model of type {kind}; text encoders: {', '.join(FAMILIES)}"
            )
        if not self.weights:
            raise ValueError(f"{self.model} has a config.json but no weights ({' or '.join(WEIGHTS)})")

    @cached_property
    def config(self) -> dict[str, Any]:
        config: dict[str, Any] = json.loads((self.model / "config.json").read_text())
        return config

    @property
    def width(self) -> int:
        """Channels of an embedding."""
        return int(self.config["d_model"])

    @cached_property
    def weights(self) -> list[Path]:
        found = (sorted(self.model.glob(pattern)) for pattern in WEIGHTS)
        return next((files for files in found if files), [])

    @property
    def vocabularies(self) -> list[Path]:
        return [self.tokenizer / name for name in VOCABULARIES if (self.tokenizer / name).is_file()]

    def digest(self) -> str:
        """sha256 over names and contents of the weights and of the tokenizer's vocabulary."""
        digest = hashlib.sha256()
        for file in [*self.weights, *self.vocabularies]:
            digest.update(f"{file.name}\0{_sha256(file)}\n".encode())
        return digest.hexdigest()

    def sizes(self) -> dict[str, int]:
        """Bytes of the files that `digest` covers: a quick look whether they are still the same."""
        return {file.name: file.stat().st_size for file in [*self.weights, *self.vocabularies]}

    def copy_to(self, folder: Path) -> "EncoderFolder":
        """The same encoder in one folder of its own, with the tokenizer below it."""
        for file in [*self.weights, *self.model.glob("*.json")]:
            if file.name != RECORD:
                link_file(file, folder / file.name)
        for file in sorted(self.tokenizer.iterdir()):
            if file.is_file() and (file.suffix == ".json" or file in self.vocabularies):
                link_file(file, folder / "tokenizer" / file.name)
        return EncoderFolder(folder, folder / "tokenizer")


@dataclass(frozen=True)
class EncoderRecord:
    """`text_encoder.json`. `model` and `tokenizer` are relative to the folder that holds the record, or absolute."""

    model: str
    tokenizer: str
    max_tokens: int
    digest: str
    sizes: dict[str, int]

    @classmethod
    def of(cls, files: EncoderFolder, max_tokens: int) -> "EncoderRecord":
        """A record to lie beside the weights. Reads all of them once."""
        tokenizer = os.path.relpath(files.tokenizer, files.model)
        return cls(".", Path(tokenizer).as_posix(), max_tokens, files.digest(), files.sizes())

    @classmethod
    def read(cls, folder: Path) -> "EncoderRecord":
        """The record of a folder; one is made where there is none."""
        path = folder / RECORD
        if path.is_file():
            return cls(**json.loads(path.read_text()))
        files = EncoderFolder.find(folder)
        return cls.of(files, _tokenizer_limit(files.tokenizer))

    def write(self, folder: Path) -> None:
        """Write the record into `folder`."""
        (folder / RECORD).write_text(json.dumps(asdict(self), indent=2, sort_keys=True) + "\n")

    def files(self, folder: Path) -> EncoderFolder:
        """The files that the record in `folder` names. Raises `ValueError` if they are not the recorded ones."""
        files = EncoderFolder(_below(folder, self.model), _below(folder, self.tokenizer))
        if not files.model.is_dir() or not files.tokenizer.is_dir():
            raise ValueError(
                f"{folder / RECORD} names {files.model} and {files.tokenizer}, which are not both there;"
                " restore them, or run the stage `text_encoder` again"
            )
        if files.sizes() != self.sizes:
            raise ValueError(
                f"{files.model} is not the encoder recorded in {folder / RECORD};"
                " run the stage `text_encoder` again, and `encode` after it"
            )
        return files


class TextEncoder:
    """A frozen text encoder."""

    def __init__(self, model: Any, tokenizer: Any, record: EncoderRecord, folder: Path) -> None:
        """model, tokenizer: of transformers; folder: where they were read from."""
        self.model = model.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.record = record
        self.folder = folder

    @classmethod
    def from_pretrained(
        cls, folder: Path | str, *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
    ) -> "TextEncoder":
        """The encoder in a folder. Raises `ValueError` if it holds none, or not the one on record."""
        # takes half a second, and who reads a record does not need it
        from transformers import AutoConfig, AutoModelForTextEncoding, AutoTokenizer

        folder = Path(folder)
        record = EncoderRecord.read(folder)
        files = record.files(folder)
        config = AutoConfig.from_pretrained(files.model)
        model = AutoModelForTextEncoding.from_pretrained(files.model, config=config, dtype=dtype)
        return cls(model.to(device), AutoTokenizer.from_pretrained(files.tokenizer), record, folder)

    @property
    def digest(self) -> str:
        """Identifies weights and vocabulary."""
        return self.record.digest

    @property
    def max_tokens(self) -> int:
        """Tokens that every prompt is padded or cut to."""
        return self.record.max_tokens

    @property
    def width(self) -> int:
        """Channels of an embedding."""
        return int(self.model.config.d_model)

    @torch.no_grad()  # what it returns may become a buffer of a model, which inference tensors cannot
    def encode(self, prompts: Sequence[str], *, batch: int = 32) -> tuple[Tensor, Tensor]:
        """Embeddings (B, L, D) float32 and mask (B, L) bool, L being `max_tokens`; zeros where the mask is False."""
        if isinstance(prompts, str):
            raise ValueError("prompts must be a list of strings, not one string")
        if not prompts:
            shape = (0, self.max_tokens)
            return torch.zeros(*shape, self.width), torch.zeros(shape, dtype=torch.bool)
        parts = [self._encode(list(prompts[i : i + batch])) for i in range(0, len(prompts), batch)]
        embeddings, masks = zip(*parts, strict=True)
        return torch.cat(embeddings), torch.cat(masks)

    def _encode(self, prompts: list[str]) -> tuple[Tensor, Tensor]:
        tokens = self.tokenizer(
            prompts, padding="max_length", truncation=True, max_length=self.max_tokens, return_tensors="pt"
        ).to(self.model.device)
        output = self.model(input_ids=tokens.input_ids, attention_mask=tokens.attention_mask)
        mask = tokens.attention_mask.bool()
        return output.last_hidden_state.float() * mask[..., None], mask

    def save_pretrained(self, folder: Path | str) -> None:
        """Put the files and their record in one folder; they are linked, not written again."""
        save_encoder(self.folder, Path(folder))


def save_encoder(source: Path, folder: Path) -> EncoderRecord:
    """A folder that stands on its own from an encoder folder that may only refer to weights elsewhere."""
    record = EncoderRecord.read(source)
    record.files(source).copy_to(folder)
    saved = EncoderRecord(".", "tokenizer", record.max_tokens, record.digest, record.sizes)
    saved.write(folder)
    return saved


def _below(folder: Path, path: str) -> Path:
    """`path` from `folder`, without following links: the folder may be a link into a cache."""
    return Path(os.path.normpath(folder / path))


def _tokenizer_limit(folder: Path) -> int:
    config = folder / "tokenizer_config.json"
    limit = json.loads(config.read_text()).get("model_max_length", LONGEST) if config.is_file() else LONGEST
    return int(min(limit, LONGEST))  # "no limit" is stored as 1e30


def _sha256(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while chunk := stream.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
