"""The video transformer: one class whose attention pattern is data, of which Open-Sora 1.2's STDiT3 is a configuration.

PixArt-Sigma is the same class without frame-crossing blocks, query-key norm and frame-rate embedding, which is how an
image model grows into a video model one part at a time.
B batch, C channels, T H W latent grid, L text tokens, D width.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, cast

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

from models.positions import ScalarEmbedding, frame_positions, inverse_wavelengths, rotate_in_time
from models.transformers.attention import QueryKeyNorm, SelfAttention
from models.transformers.blocks import Block
from models.transformers.modulation import AdaLNSingle, FinalLayer
from models.transformers.patches import Patches, unpatchify
from models.transformers.text_attention import CaptionProjection, Text, TextAttention
from models.transformers.windows import Level, Window

STDIT_PATTERN = {"spatial": {"size": [1, None, None]}, "temporal": {"size": [None, 1, 1]}}


class VideoTransformer(ModelMixin, ConfigMixin):  # type: ignore[misc]  # diffusers has no types
    """Predicts the velocity (or the noise, and with it the variance) of noisy latents.

    Configuration: `depth` layers, each with one block per entry of `pattern`; `temporal` False leaves out the entries
    that cross frames. `base_pixels` is the side of the picture that position scale 1 stands for. `out_channels` is
    twice `in_channels` where the variance is predicted too.
    """

    _supports_gradient_checkpointing = True
    _no_split_modules = ("Block",)  # a name that accelerate looks for

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(  # noqa: PLR0913  # one argument per key of config.json
        self,
        *,
        in_channels: int = 4,
        out_channels: int = 8,
        patch: tuple[int, int, int] = (1, 2, 2),
        depth: int = 28,
        heads: int = 16,
        head_width: int = 72,
        mlp_ratio: float = 4.0,
        caption_channels: int = 4096,
        max_text_tokens: int = 300,
        base_pixels: int = 512,
        pattern: Mapping[str, Mapping[str, Any]] = STDIT_PATTERN,
        qk_norm: bool = True,
        fps_conditioning: bool = True,
        temporal: bool = True,
    ) -> None:
        super().__init__()
        width = heads * head_width
        if width % 4:
            raise ValueError(f"width {width} = heads x head_width must be a multiple of 4 for 2D positions")
        self.patch = (patch[0], patch[1], patch[2])
        self.base_pixels = base_pixels
        self.gradient_checkpointing = False
        windows = {name: Window.from_config(window) for name, window in pattern.items()}
        kept = {name: window for name, window in windows.items() if temporal or not window.crosses_frames}
        self.level = Level(depth=depth, width=width, pattern=kept)

        self.patches = Patches(in_channels, width, self.patch)
        self.timestep_embedding = ScalarEmbedding(width)
        self.fps_embedding = ScalarEmbedding(width) if fps_conditioning else None
        self.adaln = AdaLNSingle(width)
        self.caption = CaptionProjection(caption_channels, width)
        null_caption = torch.randn(max_text_tokens, caption_channels) / caption_channels**0.5
        self.register_buffer("null_caption", null_caption)
        self.rotary = RotaryFrequencies(head_width) if any(w.crosses_frames for w in kept.values()) else None
        self.layers = build_layers(self.level, heads, hidden=int(width * mlp_ratio), qk_norm=qk_norm)
        self.final = FinalLayer(width, patch[0] * patch[1] * patch[2] * out_channels)
        self.initialise()

    def forward(
        self,
        latents: Tensor,
        timestep: Tensor,
        text: Tensor,
        text_mask: Tensor,
        *,
        fps: Tensor,
        size: Tensor,
        frame_mask: Tensor | None = None,
    ) -> Tensor:
        """Noisy latents (B, C, T, H, W) at times (B,) in [0, 1000] -> float32 (B, out channels, T, H, W).

        text: (B, L, caption channels) with text_mask (B, L), 1 on words. fps: (B,). size: (B, 2), height and width of
        the picture in pixels. frame_mask: (B, T), False on frames that are given clean: they are shown time 0.
        """
        dtype = self.patches.projection.weight.dtype
        x = self.patches(latents.to(dtype))
        scale = size.float().prod(dim=1).sqrt() / self.base_pixels
        x = x + frame_positions((x.shape[2], x.shape[3]), self.level.width, scale).to(dtype)
        embedded = self.embed_conditions(timestep, fps, frame_mask)
        condition = self.adaln(embedded)
        words = self.caption.read(text.to(dtype), text_mask)
        for block in self.blocks():
            x = self.run_block(block, x, words, condition)
        return unpatchify(self.final(x, embedded), self.patch, latents.shape[2:]).float()

    def embed_conditions(self, timestep: Tensor, fps: Tensor, frame_mask: Tensor | None) -> Tensor:
        """Time and frame rate -> (B, F, D): F = 1, or one per frame where a frame mask gives frames their own time."""
        times = timestep.float()[:, None]
        if frame_mask is not None:
            if self.patch[0] != 1:
                raise ValueError(f"frame_mask needs tokens of one frame; the patch is {self.patch}")
            times = torch.where(frame_mask, times, 0.0)
        embedded: Tensor = self.timestep_embedding(times)
        if self.fps_embedding is not None:
            embedded = embedded + self.fps_embedding(fps)[:, None]
        return embedded

    def run_block(self, block: Block, x: Tensor, text: Text, condition: Tensor) -> Tensor:
        """One block, its activations recomputed in the backward pass if `enable_gradient_checkpointing` was called."""
        if self.gradient_checkpointing and torch.is_grad_enabled():
            out: Tensor = self._gradient_checkpointing_func(block, x, text, condition)
        else:
            out = block(x, text, condition)
        return out

    def null_text(self, text: Tensor) -> Tensor:
        """The null caption in the shape of `text` (B, L, caption channels); it goes with the mask of the prompt.

        Raises `ValueError` where `text` is longer than the null caption.
        """
        if text.shape[1] > len(self.null_caption):
            raise ValueError(
                f"{text.shape[1]} text tokens, but the null caption of this model has {len(self.null_caption)};"
                " encode the text with at most that many, or grow the model's max_text_tokens"
            )
        caption: Tensor = self.null_caption[: text.shape[1]].to(text.dtype)
        return caption.expand_as(text)

    def blocks(self) -> Iterator[Block]:
        """All blocks, in the order in which tokens pass them."""
        for layer in self.layers:
            yield from cast(Iterable[Block], cast(nn.ModuleDict, layer).values())

    def temporal_parameters(self) -> list[nn.Parameter]:
        """The parameters of blocks that cross frames."""
        crossing = [block for block in self.blocks() if block.attention.window.crosses_frames]
        return [parameter for block in crossing for parameter in block.parameters()]

    def initialise(self) -> None:
        """Xavier weights and zero biases; what a trained image model does not have yet starts without effect."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        if self.fps_embedding is not None:
            nn.init.normal_(self.fps_embedding.hidden.weight, std=0.02)
            nn.init.zeros_(self.fps_embedding.out.weight)
        for block in self.blocks():
            if block.attention.window.crosses_frames:
                block.start_as_identity()


class RotaryFrequencies(nn.Module):
    """The frequencies of the rotary phases, a frozen parameter because published checkpoints store and count it.

    The phases are computed in float32 from the same constants: a model in bfloat16 would round these.
    """

    def __init__(self, head_width: int) -> None:
        super().__init__()
        self.frequencies = nn.Parameter(inverse_wavelengths(head_width // 2), requires_grad=False)


def build_layers(level: Level, heads: int, *, hidden: int, qk_norm: bool) -> nn.ModuleList:
    """One `ModuleDict` of blocks per layer, keyed as the pattern."""
    head_width = level.width // heads

    def block(window: Window) -> Block:
        norm = QueryKeyNorm(head_width) if qk_norm else nn.Identity()
        place = rotate_in_time if window.crosses_frames else None
        attention = SelfAttention(heads, head_width, window, norm=norm, place=place)
        return Block(attention, TextAttention(heads, head_width), hidden=hidden)

    def layer() -> nn.ModuleDict:
        return nn.ModuleDict({name: block(window) for name, window in level.pattern.items()})

    return nn.ModuleList(layer() for _ in range(level.depth))
