"""A captioning model from a folder of weights, through the generic image-text-to-text pipeline of transformers.

Whatever that library can load can caption: LLaVA, Qwen-VL, SmolVLM and their like.
"""

import io
import threading
from collections.abc import Sequence
from pathlib import Path

from components.data.captions import CaptionProblem
from components.data.config import VisionConfig
from components.data.pool import RejectedError
from components.errors import UserError


def check_weights(folder: Path) -> None:
    """Raises `UserError` where the folder holds no model."""
    if not (folder / "config.json").is_file():
        raise UserError(
            f"caption.vision.weights {folder} holds no model (no config.json): download one, as"
            " `hf download llava-hf/llava-v1.6-mistral-7b-hf --local-dir weights/llava`"
        )


class LocalModel:
    """One model in this process; threads take turns."""

    def __init__(self, folder: Path, config: VisionConfig) -> None:
        """Raises `UserError` where the library cannot make such a pipeline of the folder."""
        from transformers import pipeline

        from components.runtime import compute_device

        try:
            self._pipeline = pipeline("image-text-to-text", model=str(folder), device=compute_device())
        except (OSError, ValueError, KeyError) as error:
            raise UserError(f"caption.vision.weights {folder} cannot be loaded: {error}") from None
        self.config = config
        self.requests = 0
        self._lock = threading.Lock()

    def close(self) -> None:
        """Nothing is held but memory."""

    def __call__(self, pictures: Sequence[bytes]) -> str:
        """The model's words. Raises `RejectedError` with a reason code."""
        from PIL import Image

        images = [Image.open(io.BytesIO(one)).convert("RGB") for one in pictures]
        shown = [{"type": "image", "image": image} for image in images]
        messages = [{"role": "user", "content": [*shown, {"type": "text", "text": self.config.prompt}]}]
        with self._lock:
            if self.config.max_requests is not None and self.requests >= self.config.max_requests:
                raise RejectedError(CaptionProblem.OVER_BUDGET)
            self.requests += 1
            said = self._pipeline(
                text=messages,
                max_new_tokens=self.config.max_tokens,
                return_full_text=False,
                generate_kwargs={"do_sample": False},
            )
        text = said[0].get("generated_text") if said else None
        if not isinstance(text, str) or not text.strip():
            raise RejectedError(CaptionProblem.MALFORMED)
        return text
