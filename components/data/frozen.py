"""How much of a clip is a frozen picture: a slide, a still shown as video, a stream that hung."""

from collections.abc import Sequence

import numpy as np

from components.data.video import Pixels

SAME = 0.3  # grey levels: the encoder's own noise on a picture that stands still is below


def frozen_share(pairs: Sequence[tuple[Pixels, Pixels]]) -> float:
    """Share of pairs of frames (H, W, 3), a moment apart, that show the same picture."""
    return float(np.mean([_is_same(*pair) for pair in pairs])) if pairs else 0.0


def _is_same(before: Pixels, after: Pixels) -> bool:
    return float(np.abs(before.astype(np.int16) - after).mean()) < SAME
