"""The published sizes of the video transformer and a tiny twin of each, as configurations and nothing else.

A twin has the parts of its system at a size for tests. Sources: Open-Sora 1.2 and PixArt-Sigma as published with their
weights; W.A.L.T (arXiv 2312.06662), tables 1, 5 and 8. What those do not say is our choice, and marked so.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from models.shapes import token_grid
from models.transformers.video_transformer import VideoTransformer

Config = Mapping[str, Any]  # keys of `VideoTransformer`
Sides = tuple[int, int, int]
Latent = tuple[int, int, int, int]  # channels, frames, height, width


@dataclass(frozen=True, kw_only=True)
class Preset:
    """One model: what is built, for which system, and where it is used."""

    config: Config
    system: str
    published: str  # what the publication says of its size; empty for a twin
    video: Sides  # frames, height and width of the published resolution
    autoencoder: str  # a name in `models.autoencoders.presets.AUTOENCODERS`
    latent: Latent  # of `video`

    @property
    def tokens(self) -> int:
        """Tokens of a sample at the published resolution."""
        frames, rows, columns = token_grid(self.latent[1:], self.config.get("patch", (1, 2, 2)))
        return frames * rows * columns

    def twin(self, *, video: Sides, latent: Latent, **changes: Any) -> "Preset":
        """The same system with other sizes."""
        return replace(
            self,
            config={**self.config, **changes},
            published="",
            video=video,
            autoencoder=f"{self.autoencoder}-tiny",
            latent=latent,
        )


STDIT3_XL_2 = Preset(
    config={"depth": 28, "heads": 16, "head_width": 72},
    system="Open-Sora 1.2",
    published="1.1 B",
    video=(51, 240, 426),
    autoencoder="opensora-vae-1.2",
    latent=(4, 15, 30, 53),
)
STDIT3_3B_2 = replace(STDIT3_XL_2, config={"depth": 28, "heads": 26, "head_width": 72}, published="3 B")
PIXART_SIGMA_XL_2 = Preset(
    config={
        "depth": 28,
        "heads": 16,
        "head_width": 72,
        "qk_norm": False,
        "fps_conditioning": False,
        "temporal": False,
    },
    system="PixArt-Sigma",
    published="0.6 B",
    video=(1, 1024, 1024),
    autoencoder="sdxl-2d",
    latent=(4, 1, 128, 128),
)

WALT_TEXT_TOKENS = 128  # our choice


def walt(grid: Sides, brick: tuple[int, int], **sizes: Any) -> Config:
    """The parts of W.A.L.T on a grid of tokens: blocks of whole frames and of bricks of all frames, in turns."""
    frames, rows, columns = grid
    return {
        "in_channels": 25,  # noisy latents, the model's last estimate, given frames and their mark
        "out_channels": 8,
        "patch": (1, 1, 1),
        "heads": 16,
        "pattern": {"spatial": {"size": [1, rows, columns]}, "spatiotemporal": {"size": [frames, *brick]}},
        "qk_norm": "layer",
        "rope": {"kind": "none"},
        "relative_bias": True,
        "modulation": {"kind": "lora", "rank": 2},
        "positions": {"kind": "learned", "grid": list(grid)},
        "fps_conditioning": False,
        **sizes,
    }


def walt_of_classes(count: int, **sizes: Any) -> Config:
    """What makes a class-conditional model of it."""
    return {"text": {"kind": "none"}, "conditions": {"class": {"count": count}}, **sizes}


def walt_of_text(**sizes: Any) -> Config:
    """What makes a text-to-video model of it. The encoder is T5-XL."""
    return {
        "text": {"kind": "shared"},
        "caption_channels": 2048,
        "max_text_tokens": WALT_TEXT_TOKENS,
        **sizes,
    }


def walt_upsampler(**sizes: Any) -> Config:
    """What makes a super-resolution stage of a text-to-video model."""
    return walt_of_text(low_resolution_channels=8, conditions={"t_sr": {}}, **sizes)


BASE_GRID = ((5, 16, 16), (8, 8))  # of 17 x 128 x 128 pixels
WIDE_GRID = ((5, 16, 28), (8, 14))  # of both super-resolution stages
WALT_L = Preset(
    config=walt(*BASE_GRID, **walt_of_classes(101, depth=12, head_width=64)),
    system="W.A.L.T",
    published="313 M",
    video=(17, 128, 128),
    autoencoder="walt-causal-3d",
    latent=(8, 5, 16, 16),
)


def walt_l(modulation: Config, published: str) -> Preset:
    """The large model with another modulation."""
    return replace(WALT_L, config={**WALT_L.config, "modulation": modulation}, published=published)


WALT: Mapping[str, Preset] = {
    "walt-l-r2": WALT_L,
    "walt-l-r4": walt_l({"kind": "lora", "rank": 4}, "314 M"),
    "walt-l-r16": walt_l({"kind": "lora", "rank": 16}, "316 M"),
    "walt-l-r64": walt_l({"kind": "lora", "rank": 64}, "324 M"),
    "walt-l-r256": walt_l({"kind": "lora", "rank": 256}, "357 M"),
    "walt-l-separate": walt_l({"kind": "separate"}, "458 M"),
    "walt-xl": replace(
        WALT_L,
        config=walt(*BASE_GRID, **walt_of_classes(101, depth=14, head_width=72)),
        published="460 M",
    ),
    "walt-imagenet-l": Preset(
        config=walt(
            (1, 32, 32),
            (16, 16),
            **walt_of_classes(1000, depth=12, head_width=64, in_channels=16, modulation={"kind": "separate"}),
        ),
        system="W.A.L.T",
        published="460 M",
        video=(1, 256, 256),
        autoencoder="walt-image",
        latent=(8, 1, 32, 32),
    ),
    "walt-t2v-l": replace(
        WALT_L, config=walt(*BASE_GRID, **walt_of_text(depth=12, head_width=64)), published="419 M"
    ),
    "walt-t2v-3b": replace(  # the width is our choice: only the size and the depth are published
        WALT_L,
        config=walt(*BASE_GRID, **walt_of_text(depth=26, head_width=112, mlp_width=9216)),
        published="3 B",
    ),
    "walt-sr-2x": replace(
        WALT_L,
        config=walt(*WIDE_GRID, **walt_upsampler(depth=20, head_width=88, patch=(1, 2, 2))),
        published="1.3 B",
        video=(17, 256, 448),
        latent=(8, 5, 32, 56),
    ),
    "walt-sr-2x2x": replace(
        WALT_L,
        config=walt(*WIDE_GRID, **walt_upsampler(depth=12, head_width=64, patch=(1, 4, 4))),
        published="419 M",
        video=(17, 512, 896),
        latent=(8, 5, 64, 112),
    ),
}


def shifted(frame: Sequence[int], clip: Sequence[int]) -> list[Config]:
    """Windows of a frame and of a clip in turns; every second of either kind is shifted by half its size."""
    windows = {"spatial": [1, *frame], "temporal": list(clip)}
    return [
        {name: {"size": size} for name, size in windows.items()},
        {name: {"size": size, "shift": [side // 2 for side in size]} for name, size in windows.items()},
    ]


# 24 blocks, width 1024, 16 heads, T5-XXL and spatial stride 4 are published; the other parts are our choice
HDVILA_FLAT = Preset(
    config={
        "in_channels": 4,
        "out_channels": 4,
        "depth": 12,
        "heads": 16,
        "head_width": 64,
        "pattern": shifted((8, 8), (8, 4, 4)),
        "base_pixels": 256,
        "conditions": {"size": {}},
    },
    system="HD-VILA shifted windows",
    published="24 blocks, 1024 wide, 16 heads",
    video=(16, 256, 256),
    autoencoder="hdvila-2d",
    latent=(4, 16, 64, 64),
)
HDVILA_HOURGLASS = replace(HDVILA_FLAT, config={**HDVILA_FLAT.config, "depth": [3, 6, 3]})

# size, joint attention under a causal frame mask, cross-attention and 4 x 16 x 16 strides are given. The other numbers
# are those of Wan2.2-TI2V-5B, the public model of this geometry; its blocks of frames and conditions are our choice
CAUSAL_5B = Preset(
    config={
        "in_channels": 48,
        "out_channels": 48,
        "depth": 30,
        "heads": 24,
        "head_width": 128,
        "mlp_width": 14_336,
        "max_text_tokens": 512,
        "pattern": {"joint": {"size": [None, None, None], "causal": True}},
        "frame_blocks": {"size": 3, "first": 1},
        "qk_norm": "width",
        "rope": {"kind": "axes", "channels": [44, 42, 42]},
        "positions": {"kind": "none"},
        "conditions": {"size": {}},
    },
    system="causal 5B",
    published="5 B",
    video=(121, 704, 1280),
    autoencoder="causal-5b-vae",
    latent=(48, 31, 44, 80),
)

TINY_SIZES: Config = {"depth": 2, "heads": 4, "head_width": 16, "caption_channels": 32, "max_text_tokens": 12}
TINY_WALT: Config = {
    **TINY_SIZES,
    "pattern": {"spatial": {"size": [1, 4, 4]}, "spatiotemporal": {"size": [5, 2, 2]}},
    "positions": {"kind": "learned", "grid": [5, 4, 4]},
}
TINY_WALT_IMAGE: Config = {
    **TINY_SIZES,
    "pattern": {"spatial": {"size": [1, 4, 4]}, "spatiotemporal": {"size": [1, 2, 2]}},
    "positions": {"kind": "learned", "grid": [1, 4, 4]},
}
TINY_WALT_WIDE: Config = {
    **TINY_SIZES,
    "pattern": {"spatial": {"size": [1, 4, 8]}, "spatiotemporal": {"size": [5, 2, 4]}},
    "positions": {"kind": "learned", "grid": [5, 4, 8]},
}
TINY_CAUSAL: Config = {**TINY_SIZES, "mlp_width": 160, "rope": {"kind": "axes", "channels": [8, 4, 4]}}
TINY_HDVILA: Config = {**TINY_SIZES, "pattern": shifted((2, 2), (4, 2, 2)), "base_pixels": 32}


def tiny_walt(preset: Preset) -> Preset:
    """The twin of a W.A.L.T model, on the grid of its kind."""
    sides: Mapping[Sides, tuple[Config, Sides, Latent]] = {
        (1, 256, 256): (TINY_WALT_IMAGE, (1, 32, 32), (8, 1, 4, 4)),
        (17, 128, 128): (TINY_WALT, (17, 32, 32), (8, 5, 4, 4)),
        (17, 256, 448): (TINY_WALT_WIDE, (17, 64, 128), (8, 5, 8, 16)),
        (17, 512, 896): (TINY_WALT_WIDE, (17, 128, 256), (8, 5, 16, 32)),
    }
    changes, video, latent = sides[preset.video]
    mlp = {"mlp_width": 160} if "mlp_width" in preset.config else {}
    return preset.twin(video=video, latent=latent, **{**changes, **mlp})


TINY_OPEN_SORA = {**TINY_SIZES, "base_pixels": 32}
TINY_CLIP: Mapping[str, Any] = {"video": (17, 32, 32), "latent": (4, 5, 4, 4)}
PRESETS: Mapping[str, Preset] = {
    "stdit3-xl-2": STDIT3_XL_2,
    "stdit3-3b-2": STDIT3_3B_2,
    "pixart-sigma-xl-2": PIXART_SIGMA_XL_2,
    **WALT,
    "hdvila-hourglass": HDVILA_HOURGLASS,
    "hdvila-flat": HDVILA_FLAT,
    "causal-5b": CAUSAL_5B,
    "stdit3-xl-2-tiny": STDIT3_XL_2.twin(**TINY_CLIP, **TINY_OPEN_SORA),
    "stdit3-3b-2-tiny": STDIT3_3B_2.twin(**TINY_CLIP, **{**TINY_OPEN_SORA, "heads": 6}),
    "pixart-sigma-xl-2-tiny": PIXART_SIGMA_XL_2.twin(
        video=(1, 32, 32), latent=(4, 1, 4, 4), **TINY_OPEN_SORA
    ),
    **{f"{name}-tiny": tiny_walt(preset) for name, preset in WALT.items()},
    "hdvila-hourglass-tiny": HDVILA_HOURGLASS.twin(
        video=(8, 64, 64), latent=(4, 8, 16, 16), **{**TINY_HDVILA, "depth": [1, 1, 1]}
    ),
    "hdvila-flat-tiny": HDVILA_FLAT.twin(video=(8, 64, 64), latent=(4, 8, 16, 16), **TINY_HDVILA),
    "causal-5b-tiny": CAUSAL_5B.twin(video=(25, 64, 64), latent=(48, 7, 4, 4), **TINY_CAUSAL),
}


def preset(name: str, **changes: Any) -> VideoTransformer:
    """A freshly initialised model of a preset, with some keys changed. Raises `ValueError` listing the names."""
    if name not in PRESETS:
        raise ValueError(f"there is no transformer preset `{name}`; presets: {', '.join(PRESETS)}")
    model: VideoTransformer = VideoTransformer(**{**PRESETS[name].config, **changes})
    return model
