"""Text to video, or to a still image: prompts through encoder, sampler and autoencoder to pixels.

The first frames may be given: one of them makes image-to-video, the last ones of a video make its continuation
(`models.generation.extension`).

B samples, C channels, T H W pixels, t h w latents.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from models.autoencoders import load_autoencoder
from models.autoencoders.codec import VideoCodec
from models.diffusion.conditions import IMAGE_FPS, Conditions, Progress
from models.diffusion.guidance import Guided, PowerCosine
from models.diffusion.objective import Sampler
from models.diffusion.rectified_flow import RectifiedFlow
from models.diffusion.samplers import Reference
from models.diffusion.times import Times
from models.diffusion.v_prediction import VPrediction
from models.generation import layout
from models.generation.given import from_pixels, reference_of
from models.generation.layout import Changes, Sampling, Settings
from models.text import TextEncoder
from models.transformers.video_transformer import VideoTransformer

PRECISIONS = {torch.float32: "float32", torch.bfloat16: "bfloat16"}


class TextToVideoPipeline:
    """A trained transformer with the text encoder, autoencoder and times that it was trained with."""

    def __init__(
        self,
        *,
        transformer: VideoTransformer,
        codec: VideoCodec,
        text_encoder: TextEncoder,
        times: Sampling | Sampler,
        defaults: Settings,
    ) -> None:
        """`times`: of rectified flow, or an objective that has its own, as v-prediction or a causal flow.

        Raises `ValueError` if the parts do not belong together.
        """
        self.transformer = transformer.eval()
        self.codec = codec.eval()
        self.text_encoder = text_encoder
        self.times = times
        self.objective: Sampler = RectifiedFlow(times) if isinstance(times, Times) else times
        self.defaults = defaults
        self.dtype = torch.float32
        self._check_parts()

    @classmethod
    def from_pretrained(
        cls, folder: Path | str, *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
    ) -> "TextToVideoPipeline":
        """The pipeline in a folder. Raises `ValueError` where it is not whole or its parts do not fit."""
        folder = Path(folder)
        times, defaults = layout.read_settings(folder)
        pipeline = cls(
            transformer=VideoTransformer.from_pretrained(folder / layout.TRANSFORMER),
            codec=load_autoencoder(folder / layout.CODEC),
            text_encoder=TextEncoder.from_pretrained(folder / layout.TEXT),
            times=times,
            defaults=defaults,
        )
        return pipeline.to(device, dtype)

    def save_pretrained(self, folder: Path | str) -> None:
        """Write a folder that `from_pretrained` reads. Raises `ValueError` for an objective that no folder holds."""
        if not isinstance(self.times, Sampling):
            raise ValueError(f"a pipeline that samples with {type(self.times).__name__} has no folder")
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.transformer.save_pretrained(folder / layout.TRANSFORMER)
        self.codec.save_pretrained(folder / layout.CODEC)
        self.text_encoder.save_pretrained(folder / layout.TEXT)
        layout.write_settings(folder, self.times, self.defaults)

    def to(self, device: torch.device | str, dtype: torch.dtype = torch.float32) -> "TextToVideoPipeline":
        """Move to a device, and compute in `dtype`: float32, or bfloat16 by autocast over float32 weights."""
        if dtype not in PRECISIONS:
            raise ValueError(f"{dtype} is not supported; use {' or '.join(PRECISIONS.values())}")
        for module in (self.transformer, self.codec, self.text_encoder.model):
            module.to(device)
        self.dtype = dtype
        return self

    @property
    def device(self) -> torch.device:
        """Where the parts are."""
        return next(self.codec.buffers()).device

    @property
    def flow(self) -> RectifiedFlow:
        """The objective, where it is rectified flow. Raises `ValueError` where it is not."""
        if not isinstance(self.objective, RectifiedFlow):
            raise ValueError(
                f"this pipeline was trained with {type(self.objective).__name__}, not with a flow"
            )
        return self.objective

    @property
    def multiple(self) -> tuple[int, int]:
        """Pixels that height and width must be a multiple of: spatial stride times patch."""
        _, height, width = self.transformer.config.patch
        stride = self.codec.geometry.spatial_stride
        return stride * height, stride * width

    @torch.inference_mode()
    def __call__(
        self,
        prompts: Sequence[str],
        *,
        given: NDArray[np.uint8] | None = None,
        batch: int = 8,
        progress: Progress | None = None,
        **changes: Unpack[Changes],
    ) -> NDArray[np.uint8]:
        """Videos (B, T, H, W, 3), one per prompt, by the pipeline's settings with `changes` over them.

        `given` (B or 1, F, H, W, 3) are the first frames of each video, which it keeps: F = 1 animates an
        image. `batch` samples are made at a time and do not influence one another. `progress` is called with
        steps done and steps in all. Raises `ValueError` before any work where a size does not fit the model.
        """
        settings = replace(self.defaults, **changes)
        self.check(prompts, settings)
        frames = from_pixels(given, len(prompts), settings, self.codec.geometry)
        starts = range(0, len(prompts), batch)
        videos = []
        for index, start in enumerate(starts):
            report = part_of(progress, index, len(starts))
            part = prompts[start : start + batch]
            here = replace(settings, seed=settings.seed + start)
            known = None if frames is None else frames[start : start + batch]
            with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
                videos.append(self._generate(part, here, known, report))
        return np.concatenate(videos)

    def check(self, prompts: Sequence[str], settings: Settings) -> None:
        """Raises `ValueError` naming what cannot be generated, and the nearest that can."""
        if isinstance(prompts, str) or not prompts:
            raise ValueError("prompts must be a list with at least one string")
        for name, multiple in zip(("height", "width"), self.multiple, strict=True):
            side = getattr(settings, name)
            if side < multiple or side % multiple:
                below = max(multiple, side // multiple * multiple)
                raise ValueError(
                    f"{name} {side} is not a multiple of {multiple} px (autoencoder stride times patch);"
                    f" use {below} or {below + multiple}"
                )
        if settings.num_frames < 1:
            raise ValueError(f"num_frames must be at least 1 (a still image), not {settings.num_frames}")
        self._check_grid(settings)
        frames = self.codec.geometry.latent_frames(settings.num_frames)
        if frames % (patch := self.transformer.config.patch[0]):
            raise ValueError(
                f"{settings.num_frames} frames are {frames} latent frames, which do not divide into {patch}"
            )
        for name in ("fps", "steps"):
            if not getattr(settings, name) > 0:
                raise ValueError(f"{name} must be positive, not {getattr(settings, name)}")
        if not 0 <= settings.guidance_rescale <= 1:
            raise ValueError(f"guidance_rescale is a share in 0..1, not {settings.guidance_rescale}")
        if settings.guidance_power < 0:
            raise ValueError(f"guidance_power must be 0 (constant) or more, not {settings.guidance_power}")

    def _check_grid(self, settings: Settings) -> None:
        """Learned positions are of one picture size. Raises `ValueError` naming it."""
        positions = self.transformer.config.positions
        if positions["kind"] != "learned":
            return
        multiples = self.multiple
        size = tuple(tokens * side for tokens, side in zip(positions["grid"][1:], multiples, strict=True))
        if size != (settings.height, settings.width):
            raise ValueError(
                f"this model has learned positions for {size[0]} x {size[1]} px and makes no other size;"
                f" {settings.height} x {settings.width} was asked for"
            )

    def conditions(self, prompts: Sequence[str], settings: Settings) -> tuple[Conditions, Conditions]:
        """What the transformer is told with each prompt, and instead of it.

        The null caption of the model goes with the prompt's mask, as in training; a negative prompt has its
        own.
        """
        text, mask = (part.to(self.device) for part in self.text_encoder.encode(prompts))
        count = len(prompts)
        size = torch.tensor([settings.height, settings.width], dtype=torch.float32, device=self.device)
        fps = IMAGE_FPS if settings.num_frames == 1 else float(settings.fps)
        told = Conditions(
            text=text,
            text_mask=mask,
            fps=torch.full((count,), fps, device=self.device),
            size=size.expand(count, 2),
        )
        if not settings.negative_prompt:
            return told, replace(told, text=self.transformer.null_text(text))
        negative, negative_mask = self.text_encoder.encode([settings.negative_prompt])
        return told, replace(
            told,
            text=negative.to(self.device).expand_as(text),
            text_mask=negative_mask.to(self.device).expand_as(mask),
        )

    def noise(self, count: int, settings: Settings) -> Tensor:
        """Starting noise (count, C, t, h, w); drawn on the CPU, so that all devices start alike."""
        shape = self.codec.geometry.latent_shape(settings.num_frames, settings.height, settings.width)
        rows = [
            torch.randn(shape, generator=Generator().manual_seed(settings.seed + i)) for i in range(count)
        ]
        return torch.stack(rows).to(self.device)

    def guided(self, prompts: Sequence[str], settings: Settings) -> Guided:
        """The transformer with the conditions of the prompts and the guidance of the settings bound."""
        told, null = self.conditions(prompts, settings)
        scale = settings.guidance_scale
        power = settings.guidance_power
        return Guided(
            self.transformer,
            told,
            null,
            PowerCosine(scale, power) if power and scale != 1 else scale,
            settings.guidance_rescale,
        )

    def _generate(
        self,
        prompts: Sequence[str],
        settings: Settings,
        given: Tensor | None,
        progress: Progress | None,
    ) -> NDArray[np.uint8]:
        latents = self.sample(prompts, settings, given, progress)
        return to_pixels(self.codec.decode(latents, settings.num_frames))

    def sample(
        self, prompts: Sequence[str], settings: Settings, given: Tensor | None, progress: Progress | None
    ) -> Tensor:
        """Latents (B, C, t, h, w) of videos that begin with the frames `given` (B, 3, F, H, W) in [-1, 1]."""
        noise = self.noise(len(prompts), settings)
        reference: Reference | None = None
        if given is not None:
            reference = reference_of(self.codec.encode(given.to(self.device)), noise)
        guided = self.guided(prompts, settings)
        return self.objective.sample(guided, noise, settings.steps, reference=reference, progress=progress)

    def _check_parts(self) -> None:
        config = self.transformer.config
        channels = self.codec.geometry.channels
        if isinstance(self.objective, VPrediction):
            channels = self.objective.channels.count(channels)
        pairs: dict[str, tuple[Any, Any]] = {
            "latent channels: transformer, autoencoder": (config.in_channels, channels),
            "text width: transformer, encoder": (config.caption_channels, self.text_encoder.width),
        }
        for what, (expected, found) in pairs.items():
            if expected != found:
                raise ValueError(f"the parts do not belong together: {what} differ ({expected} and {found})")
        if self.text_encoder.max_tokens > config.max_text_tokens:
            raise ValueError(
                f"the encoder makes {self.text_encoder.max_tokens} tokens, the transformer reads at most"
                f" {config.max_text_tokens}"
            )


def to_pixels(frames: Tensor) -> NDArray[np.uint8]:
    """(B, 3, T, H, W) in [-1, 1] -> (B, T, H, W, 3) uint8; values beyond are clipped."""
    levels = ((frames.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    pixels: NDArray[np.uint8] = levels.permute(0, 2, 3, 4, 1).contiguous().cpu().numpy()
    return pixels


def part_of(progress: Progress | None, part: int, parts: int) -> Progress | None:
    """Progress of one of several equal parts, counted over all of them."""
    if progress is None:
        return None
    return lambda done, total: progress(part * total + done, parts * total)
