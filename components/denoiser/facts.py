"""What a denoiser was trained on, in a file beside its weights.

Weights alone do not say which latents, prompts and times they belong to. Every stage that trains a
transformer writes `training.json` into the folder it exports; the next stage and the package stage refuse
what does not match.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from components.artifacts import read_json, write_json
from components.errors import ContractError

FILE = "training.json"


@dataclass(frozen=True, kw_only=True)
class TrainingFacts:
    """The conditions under which a denoiser's output means something."""

    objective: str  # "epsilon", "flow", "v_prediction" or "teacher_forcing"
    autoencoder: dict[str, Any]  # contract of the codec that made the latents
    text: dict[str, Any]  # digest, width and max_tokens of the text encoder
    times: dict[str, Any] | None  # what sampling shares with the objective; None with the epsilon objective
    fps: float
    shapes: list[list[int]]  # frames, height, width of the buckets it saw, in pixels
    upsampling: dict[str, Any] | None = None  # of a super-resolution stage: the noise on what it starts from

    def write(self, folder: Path) -> None:
        """Write `training.json` into the folder of the transformer."""
        facts = asdict(self)
        if self.upsampling is None:
            del facts["upsampling"]
        write_json(folder / FILE, facts)

    @classmethod
    def read(cls, folder: Path) -> "TrainingFacts":
        """Raises `ContractError` where a folder has none, or one of another version."""
        path = folder / FILE
        if not path.is_file():
            raise ContractError(f"{path} is missing: the stage that trains {folder} writes it; run it again")
        try:
            return cls(**read_json(path))
        except TypeError as error:
            raise ContractError(
                f"{path} was written by another version ({error}); run its stage again"
            ) from None

    def expect(self, *, codec: dict[str, Any], text_digest: str) -> None:
        """Raises `ContractError` unless latents and prompts come from the autoencoder and encoder named here."""
        changed = sorted(name for name in self.autoencoder if self.autoencoder[name] != codec.get(name))
        if changed:
            raise ContractError(
                f"the denoiser was trained on latents of another autoencoder ({', '.join(changed)} differ);"
                " encode the clips again and train on them"
            )
        if self.text["digest"] != text_digest:
            raise ContractError(
                f"the denoiser was trained with text encoder {self.text['digest'][:12]}, this one is"
                f" {text_digest[:12]}; encode the captions again and train on them"
            )
