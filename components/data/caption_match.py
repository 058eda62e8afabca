"""How well a caption tells what the middle frame shows: CLIP similarity in the published unit.

Open-Sora's filter multiplies the cosine with the model's logit scale, about 100, and so does this.
"""

from pathlib import Path

from components.data.clip_model import load
from components.data.video import Pixels


def caption_match(frame: Pixels, caption: str, clip_weights: Path) -> float:
    """Of a frame (H, W, 3)."""
    model = load(clip_weights)
    return model.scale * float(model.images([frame])[0] @ model.text(caption))
