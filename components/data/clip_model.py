"""CLIP for scores: frames and captions as vectors of one space, from a folder of the transformers library.

Imports torch, so it is imported in workers only, and only when a score that needs it is switched on.
"""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from transformers import CLIPModel, CLIPTokenizer

from components.data.video import Pixels
from components.errors import UserError

MEAN = (0.48145466, 0.4578275, 0.40821073)  # of the pictures CLIP was trained on (OpenAI)
DEVIATION = (0.26862954, 0.26130258, 0.27577711)


class ClipModel:
    """One CLIP model on the device there is."""

    def __init__(self, folder: Path) -> None:
        try:
            self.tokenizer = CLIPTokenizer.from_pretrained(folder)
            model = CLIPModel.from_pretrained(folder)
        except (OSError, ValueError) as error:
            raise UserError(f"score.clip_weights: {folder} holds no CLIP model: {error}") from None
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model = model.eval().to(self.device)
        self.size = int(model.config.vision_config.image_size)
        self.words = int(model.config.text_config.max_position_embeddings)

    @torch.no_grad()
    def images(self, frames: Sequence[Pixels]) -> Tensor:
        """Frames (H, W, 3) -> unit vectors (N, D)."""
        pixels = torch.stack([prepared(frame, self.size) for frame in frames]).to(self.device)
        pooled = self.model.vision_model(pixel_values=pixels).pooler_output
        return functional.normalize(self.model.visual_projection(pooled), dim=-1)

    @torch.no_grad()
    def text(self, caption: str) -> Tensor:
        """A caption -> a unit vector (D,); words beyond CLIP's limit are left out."""
        tokens = self.tokenizer(caption, truncation=True, max_length=self.words, return_tensors="pt")
        pooled = self.model.text_model(**tokens.to(self.device)).pooler_output
        return functional.normalize(self.model.text_projection(pooled), dim=-1)[0]

    @property
    def scale(self) -> float:
        """What published match scores multiply the cosine with, about 100."""
        return float(self.model.logit_scale.exp())


def prepared(frame: Pixels, size: int) -> Tensor:
    """(3, size, size): the shorter side to `size` by antialiased bicubic, the middle of it, normalised."""
    picture = torch.from_numpy(np.ascontiguousarray(frame)).permute(2, 0, 1)[None].float()
    height, width = frame.shape[:2]
    shorter = min(height, width)
    shape = (int(height * size / shorter), int(width * size / shorter))
    picture = functional.interpolate(picture, shape, mode="bicubic", antialias=True).clamp(0, 255).round()
    top, left = (shape[0] - size) // 2, (shape[1] - size) // 2
    middle = picture[0, :, top : top + size, left : left + size] / 255
    mean, deviation = (torch.tensor(values)[:, None, None] for values in (MEAN, DEVIATION))
    return (middle - mean) / deviation


@lru_cache(maxsize=1)
def load(folder: Path) -> ClipModel:
    """One per process; a worker scores many clips."""
    return ClipModel(folder)
