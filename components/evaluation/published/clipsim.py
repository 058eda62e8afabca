"""CLIPSIM: how well the frames of a video go with its prompt, as CLIP sees it (Wu et al. 2021).

The plain cosine, as published: not multiplied by 100, not cut off at 0. CLIP looks at single frames and hardly sees
motion; ViT-B/32 is the published model.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from components.artifacts import sha256_of
from components.data.clip_model import ClipModel
from components.evaluation.protocol import Protocol
from components.evaluation.record import Metric
from components.evaluation.scores import mean_metric
from components.progress import progress


class ClipSim:
    """One CLIP model, by the folder of the transformers library that it lies in."""

    def __init__(self, folder: Path) -> None:
        """Raises `UserError` where the folder holds none."""
        self.model = ClipModel(folder)
        self.identity = {"clip_sha256": sha256_of(folder), "frames": "all", "words": self.model.words}

    def score(self, clip: NDArray[np.uint8], prompt: str) -> float:
        """Mean cosine of prompt and frames (T, H, W, 3)."""
        return float((self.model.images(list(clip)) @ self.model.text(prompt)).mean())

    def metric(
        self, ids: Sequence[str], prompts: Sequence[str], clips: NDArray[np.uint8], protocol: Protocol
    ) -> Metric:
        """Mean over the videos, which are kept one by one."""
        values: dict[str, float] = {}
        with progress("clipsim", len(ids)) as advance:
            for name, prompt, clip in zip(ids, prompts, clips, strict=True):
                values[name] = self.score(clip, prompt)
                advance()
        return mean_metric(values, protocol.judged("clipsim", network=self.identity))
