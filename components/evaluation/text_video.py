"""Text and video in one space, for `toy_clipsim`: a projection of the classifier's features, and words in a bag.

CLIP looks at single frames and hardly sees motion; this one was trained on whole clips and does. It knows the words of
the procedural captions and nothing else, so its score carries a name of its own.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, cross_entropy, normalize

from components.artifacts import sha256_of
from components.data.synthetic import attributes_of
from components.evaluation.classifier import VOCABULARY

FILE = "text_video.safetensors"
WIDTH = 64
HIDDEN = 128
TEMPERATURE = 0.1
STEPS, BATCH, RATE = 400, 256, 3e-3
Labels = Mapping[str, NDArray[np.int64]]


class TextVideoEncoder(nn.Module):
    """features (N, D) and captions -> unit vectors (N, 64)."""

    def __init__(self, features: int) -> None:
        super().__init__()
        words = sum(len(vocabulary) for vocabulary in VOCABULARY.values())
        self.video = nn.Linear(features, WIDTH)
        self.text = nn.Sequential(nn.Linear(words, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, WIDTH))

    def of_videos(self, features: Tensor) -> Tensor:
        return normalize(self.video(features), dim=1)

    def of_words(self, bags: Tensor) -> Tensor:
        """bags: (N, words), 1 for each word that a caption names."""
        return normalize(self.text(bags), dim=1)

    @torch.inference_mode()
    def similarity(self, features: NDArray[np.float32], captions: Sequence[str]) -> NDArray[np.float64]:
        """(N,) cosine of each clip and its caption."""
        videos, texts = self.of_videos(torch.from_numpy(features)), self.of_words(bags_of(captions))
        return cosine_similarity(videos, texts).double().numpy()

    def save(self, folder: Path) -> None:
        save_file({name: value.contiguous() for name, value in self.state_dict().items()}, folder / FILE)

    @classmethod
    def load(cls, folder: Path) -> tuple["TextVideoEncoder", str]:
        """The encoder, and the sha256 of its weights."""
        state = load_file(folder / FILE)
        encoder = cls(state["video.weight"].shape[1])
        encoder.load_state_dict(state)
        return encoder.eval().requires_grad_(False), sha256_of(folder / FILE)


def bags_of(captions: Sequence[str]) -> Tensor:
    """(N, words) float32: which words of the vocabulary each caption names."""
    rows = [
        [
            float(dict(attributes_of(caption))[name] == word)
            for name, words in VOCABULARY.items()
            for word in words
        ]
        for caption in captions
    ]
    return torch.tensor(rows)


def bags_of_labels(labels: Labels) -> Tensor:
    """(N, words): the words of clips whose attributes are known by index."""
    parts = [
        torch.nn.functional.one_hot(torch.from_numpy(labels[name]), len(words))
        for name, words in VOCABULARY.items()
    ]
    return torch.cat(parts, dim=1).float()


def train_text_video(features: Tensor, labels: Labels, seed: int) -> TextVideoEncoder:
    """Contrastive training both ways; clips of equal words are each other's right answers, in equal shares.

    features: (N, D) of clips that the classifier was trained on. Deterministic in the seed.
    """
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    encoder = TextVideoEncoder(features.shape[1])
    optimizer = torch.optim.AdamW(encoder.parameters(), lr=RATE, weight_decay=1e-2)
    bags = bags_of_labels(labels)
    for _ in range(STEPS):
        rows = torch.randint(0, len(bags), (min(BATCH, len(bags)),), generator=generator)
        words = bags[rows]
        scores = encoder.of_videos(features[rows]) @ encoder.of_words(words).T / TEMPERATURE
        same = (words @ words.T == words.sum(dim=1, keepdim=True)).float()
        target = same / same.sum(dim=1, keepdim=True)
        loss = cross_entropy(scores, target) + cross_entropy(scores.T, target)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
    return encoder.eval().requires_grad_(False)
