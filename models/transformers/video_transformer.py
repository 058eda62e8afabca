"""The video transformer: one class of which every published system is a configuration.

What differs between systems is data (the attention pattern, the levels) or an object named in the configuration:
modulation, text, positions, conditions. PixArt-Sigma is Open-Sora 1.2's STDiT3 without frame-crossing blocks, query-key
norm and frame-rate embedding, which is how an image model grows into a video model one part at a time.
B batch, C channels, T H W latent grid, L text tokens, D width.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Any, Protocol, cast

import torch
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn
from torch.distributed import ProcessGroup

from models.checkpoint import CheckedModel
from models.positions import ScalarEmbedding
from models.transformers.assembly import BlockParts, Kind, Pattern, patterns_of
from models.transformers.blocks import Block
from models.transformers.causal import History
from models.transformers.conditions import AddedScalar, Given, build_conditions, frame_rate
from models.transformers.initialise import initialise
from models.transformers.kinds import of_kind
from models.transformers.levels import Skips, passages
from models.transformers.modulation import MODULATIONS, Condition
from models.transformers.patches import build_patches, unpatchify
from models.transformers.sequence import DividedSequence, WholeSequence
from models.transformers.sequence import Sequence as TokenSequence
from models.transformers.text_attention import TEXTS, Text, WindowTextAttention
from models.transformers.token_positions import POSITIONS, RotaryFrequencies

STDIT_PATTERN: Pattern = {"spatial": {"size": [1, None, None]}, "temporal": {"size": [None, 1, 1]}}
IN_TIME, SINGLE, CROSS, SINCOS = ({"kind": kind} for kind in ("time", "single", "cross", "sincos"))
NONE: Mapping[str, Any] = {}


class Histories(Protocol):
    """What a model knows of other frames, such as a `KeyValueCache`."""

    def block(self, index: int) -> History:
        """What block `index` knows."""

    def text(self, make: Callable[[], Text]) -> Text:
        """The captions, made now or in an earlier pass."""


class VideoTransformer(CheckedModel):
    """Predicts the velocity (or the noise, and with it the variance) of noisy latents.

    Sizes: `depth` layers, each with one block per entry of `pattern`, or the depths of the levels of an hourglass;
    `heads` x `head_width` is the width, `mlp_width` replaces `mlp_ratio`. `in_channels` are all that come with the
    noisy latents, `low_resolution_channels` those of a stage before; `out_channels` is twice the latents' where the
    variance is predicted too. `base_pixels` is the side of the picture that position scale 1 stands for.
    Attention: `pattern` names windows, or is a list of patterns that take turns; `temporal` False leaves out windows
    that cross frames; `qk_norm` is a key of `QUERY_KEY_NORMS`; `frame_blocks` are the fields of `FrameBlocks`.
    Objects: `rope`, `modulation`, `text` and `positions` are a kind and its options, from the tables `ROPE`,
    `MODULATIONS`, `TEXTS` and `POSITIONS`. `conditions` are names from `CONDITIONS` with their options, added to the
    embedding of time, as the frame rate is with `fps_conditioning`.
    """

    _supports_gradient_checkpointing = True
    _no_split_modules = ("Block",)  # a name that accelerate looks for

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(  # noqa: PLR0913  # one argument per key of config.json
        self,
        *,
        in_channels: int = 4,
        out_channels: int = 8,
        low_resolution_channels: int = 0,
        patch: tuple[int, int, int] = (1, 2, 2),
        depth: int | Sequence[int] = 28,
        heads: int = 16,
        head_width: int = 72,
        mlp_ratio: float = 4.0,
        mlp_width: int | None = None,
        caption_channels: int = 4096,
        max_text_tokens: int = 300,
        base_pixels: int = 512,
        pattern: Pattern | Sequence[Pattern] = STDIT_PATTERN,
        temporal: bool = True,
        qk_norm: bool | str = True,
        rope: Kind = IN_TIME,
        relative_bias: bool = False,
        frame_blocks: Mapping[str, Any] = NONE,
        modulation: Kind = SINGLE,
        text: Kind = CROSS,
        positions: Kind = SINCOS,
        fps_conditioning: bool = True,
        conditions: Mapping[str, Mapping[str, int]] = NONE,
    ) -> None:
        super().__init__()
        width = heads * head_width
        self.patch = (patch[0], patch[1], patch[2])
        self.depths = (depth,) if isinstance(depth, int) else tuple(depth)
        self.gradient_checkpointing = False
        patterns = patterns_of(pattern, temporal=temporal)
        parts = BlockParts(
            heads=heads,
            head_width=head_width,
            hidden=mlp_width or int(width * mlp_ratio),
            qk_norm=qk_norm,
            rope=rope,
            relative_bias=relative_bias,
            frame_blocks=frame_blocks,
            modulation=of_kind(MODULATIONS, modulation, "modulation"),
            text=of_kind(TEXTS, text, "text"),
        )
        self.mixes_images = parts.text.mixes_frames or patch[0] != 1
        self.patches = build_patches(in_channels, low_resolution_channels, width, self.patch)
        self.token_positions = of_kind(POSITIONS, positions, "positions", width, base_pixels)
        self.token_positions.check_windows(patterns)
        self.timestep_embedding = ScalarEmbedding(width)
        self.fps_embedding = AddedScalar(width, frame_rate) if fps_conditioning else None
        self.added_conditions = build_conditions(conditions, width)
        self.adaln = parts.modulation.shared(width, parts.modulated)
        self.caption = parts.text.caption(caption_channels, width)
        self.register_buffer("null_caption", self.caption.null(max_text_tokens, caption_channels))
        self.rotary = RotaryFrequencies(head_width) if parts.turns_in_time(patterns) else None
        self.passages = passages(self.depths, width)
        self.layers = parts.layers(patterns, sum(self.depths))
        self.final = parts.modulation.final(width, patch[0] * patch[1] * patch[2] * out_channels)
        self.sequence: TokenSequence = WholeSequence()
        self.initialise()

    def forward(  # noqa: PLR0913  # one argument per input
        self,
        latents: Tensor,
        timestep: Tensor,
        text: Tensor | None = None,
        text_mask: Tensor | None = None,
        *,
        fps: Tensor | None = None,
        size: Tensor | None = None,
        frame_mask: Tensor | None = None,
        images: Tensor | None = None,
        label: Tensor | None = None,
        low_resolution: Tensor | None = None,
        t_sr: Tensor | None = None,
        cache: Histories | None = None,
    ) -> Tensor:
        """Noisy latents (B, C, T, H, W) at times (B,) in [0, 1000] -> float32 (B, out channels, T, H, W).

        Times may be (B, T), one per frame. Channels after the noisy ones hold what the model was configured to read
        beside them. text: (B, L, caption channels) with text_mask (B, L), 1 on words; or (B, T, L, caption channels),
        a caption per frame. frame_mask: (B, T), False on frames that are given clean: they are shown time 0. images:
        (B,), True where the frames of a sample are a stack of independent images. low_resolution: (B, C', T, h, w)
        latents of the stage before, with the time t_sr (B,) of the noise on them. cache: what is known of earlier
        frames. For fps, size and label see `Given`. Raises `ValueError` for an input that this model needs, or cannot
        take.
        """
        given = Given(fps, size, latents.shape[2], t_sr, label, images, low_resolution)
        self.check(given, frame_mask)
        x = self.sequence.divide(self.token_positions(self.patches(latents, given), given))
        condition = self.embed_conditions(timestep, given, frame_mask)
        read = partial(self.caption.read, text, text_mask, latents.shape[2])
        words = read() if cache is None else cache.text(read)
        skips: Skips = []
        for passage, blocks in self.levels():
            x = passage(x, skips)
            for block in blocks:
                history = None if cache is None else cache.block(block.index)
                x = self.run_block(block, x, words, condition, images, history)
        out = self.sequence.unite(self.final(x, condition))
        return unpatchify(out, self.patch, latents.shape[2:]).float()

    def check(self, given: Given, frame_mask: Tensor | None) -> None:
        """Raise `ValueError` for inputs that tokens of several frames cannot have."""
        if frame_mask is not None and self.patch[0] != 1:
            raise ValueError(f"frame_mask needs tokens of one frame; the patch is {self.patch}")
        if given.images is not None and self.mixes_images:
            raise ValueError(
                f"a stack of images needs tokens and text windows of one frame; the patch is {self.patch}"
                f" and the text {dict(self.config.text)}"
            )

    def divide_sequence(self, sequence: DividedSequence) -> None:
        """Divide the tokens of each clip among processes. Raises `ValueError` as `check_division`."""
        self.check_division(sequence.size)
        for block in self.blocks():
            block.attention.sequence = sequence
        self.sequence = sequence

    def check_division(self, processes: int) -> None:
        """Whether so many processes can share the tokens of a clip.

        Raises `ValueError` where a part other than self-attention looks at several tokens, or heads cannot be divided.
        """
        blocks = list(self.blocks())
        windowed = any(isinstance(block.text_attention, WindowTextAttention) for block in blocks)
        if len(self.depths) > 1 or windowed:
            raise ValueError(
                "an hourglass, or text in windows, needs all tokens; use sequence_parallel 1 with this model"
            )
        for block in blocks:
            heads, biased = block.attention.layout[1], block.attention.bias is not None
            if biased or heads % processes:
                raise ValueError(
                    f"{heads} heads{' with a relative bias' if biased else ''} cannot be divided among"
                    f" {processes} processes; choose a sequence_parallel that divides them"
                )

    def divide_among(self, group: ProcessGroup) -> None:
        """`divide_sequence` over a group of processes."""
        self.divide_sequence(DividedSequence(group))

    def embed_conditions(self, timestep: Tensor, given: Given, frame_mask: Tensor | None = None) -> Condition:
        """Time and what is added to it: one embedding per sample, or per frame where frames have their own time."""
        added = [embedding(given) for embedding in self.condition_embeddings()]
        if timestep.ndim == 2:
            own = timestep.float() if frame_mask is None else timestep.float() * frame_mask
            per_frame = sum(added, start=self.timestep_embedding(own))
            return Condition(per_frame, self.adaln(per_frame), per_frame)
        times = timestep.float()[:, None]
        if frame_mask is not None:
            times = torch.cat((times, torch.zeros_like(times)), dim=1)
        noisy, *clean = (sum(added, start=part) for part in self.timestep_embedding(times).split(1, dim=1))
        embedded = torch.where(frame_mask[..., None], noisy, clean[0]) if frame_mask is not None else noisy
        return Condition(embedded, self.adaln(embedded), noisy, frame_mask)

    def condition_embeddings(self) -> Iterator[nn.Module]:
        """What is added to the embedding of time: modules from `Given` to (B, 1 or T, D)."""
        if self.fps_embedding is not None:
            yield self.fps_embedding
        yield from self.added_conditions.values()

    def run_block(self, block: Block, *inputs: Any) -> Tensor:
        """One block, its activations recomputed in the backward pass if `enable_gradient_checkpointing` was called."""
        if self.gradient_checkpointing and torch.is_grad_enabled():
            out: Tensor = self._gradient_checkpointing_func(block, *inputs)
        else:
            out = block(*inputs)
        return out

    def null_text(self, text: Tensor) -> Tensor:
        """The null caption in the shape of `text` (..., L, caption channels); it goes with the mask of the prompt.

        Raises `ValueError` where `text` is longer than the null caption, or the model reads none.
        """
        if self.null_caption is None:
            raise ValueError(
                "this model reads no text, so it has no null caption; its null condition is a label"
            )
        if text.shape[-2] > len(self.null_caption):
            raise ValueError(
                f"{text.shape[-2]} text tokens, but the null caption of this model has {len(self.null_caption)};"
                " encode the text with at most that many, or grow the model's max_text_tokens"
            )
        caption: Tensor = self.null_caption[: text.shape[-2]].to(text.dtype)
        return caption.expand_as(text)

    def levels(self) -> Iterator[tuple[nn.Module, list[Block]]]:
        """The way into each level, and its blocks."""
        layers = iter(self.layers)
        for passage, depth in zip(self.passages, self.depths, strict=True):
            inside = cast(Iterable[nn.ModuleDict], islice(layers, depth))
            yield passage, [cast(Block, block) for layer in inside for block in layer.values()]

    def blocks(self) -> Iterator[Block]:
        """All blocks, in the order in which tokens pass them."""
        for _, blocks in self.levels():
            yield from blocks

    def crossing_blocks(self) -> Iterator[Block]:
        """The blocks that cross frames."""
        return (block for block in self.blocks() if block.attention.window.crosses_frames)

    def temporal_parameters(self) -> list[nn.Parameter]:
        """The parameters of blocks that cross frames."""
        return [parameter for block in self.crossing_blocks() for parameter in block.parameters()]

    def set_attention_dropout(self, share: float) -> None:
        """Drop that share of the outputs of self-attention in training; a setting of training, not saved."""
        for block in self.blocks():
            block.attention.dropout = share

    def initialise(self) -> None:
        """Draw all weights; what a trained image model does not have yet starts without effect."""
        initialise(self)
        for block in self.crossing_blocks():
            block.start_as_identity()
