"""Parameters of the text encoder."""

from pydantic import PositiveInt

from components.config import Section


class TinyT5Config(Section):
    """Geometry of the encoder that is made here when no weights are given."""

    width: PositiveInt
    layers: PositiveInt
    heads: PositiveInt
    vocabulary: PositiveInt
    seed: int


class TextEncoderConfig(Section):
    weights: str | None  # folder with a T5 encoder and tokenizer in the transformers layout
    max_tokens: PositiveInt
    tiny: TinyT5Config
