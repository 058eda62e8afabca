"""v-prediction with zero terminal SNR, self-conditioning and frame prediction: the objective of W.A.L.T.

Salimans and Ho 2022 (arXiv 2202.00512). With x = a X + b E, a^2 + b^2 = 1, the target is v = a E - b X, from
which X = a x - b v and E = b x + a v at every step, also at the last one, where the noise prediction would
say nothing about X. (W.A.L.T prints v with the terms exchanged, from which X cannot be recovered at the
ends.) B batch, C channels, T H W latent grid.
"""

import math
from dataclasses import dataclass, field, replace

import torch
from torch import Generator, Tensor

from models.diffusion.channels import InputChannels
from models.diffusion.conditions import Conditions, Denoiser, Progress, predict
from models.diffusion.guidance import Guided
from models.diffusion.rectified_flow import Draw, mean_over_generated
from models.diffusion.samplers import Reference
from models.diffusion.schedules import NoiseSchedule


@dataclass(frozen=True, kw_only=True)
class VPrediction:
    """Training loss and trailing DDIM sampler.

    `self_conditioning` is the share of training samples that see an estimate of the clean latents from a
    first pass without gradients; it needs a model with channels for it.
    """

    schedule: NoiseSchedule = field(default_factory=NoiseSchedule)
    channels: InputChannels = field(default_factory=InputChannels)
    self_conditioning: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.self_conditioning <= 1:
            raise ValueError(f"self_conditioning is a share of samples in 0..1, not {self.self_conditioning}")
        if self.self_conditioning and not self.channels.estimate:
            raise ValueError("self_conditioning needs InputChannels(estimate=True) and a model that has them")

    @property
    def whole_times(self) -> int:
        """Times of the discrete schedule."""
        return self.schedule.steps

    @property
    def sampler(self) -> str:
        """What its sampler is called."""
        return "ddim, trailing"

    def always_estimating(self) -> "VPrediction":
        """The same, but every sample that a draw names sees an estimate; unchanged without self-conditioning."""
        return replace(self, self_conditioning=1.0) if self.self_conditioning else self

    def draw(self, latents: Tensor, generator: Generator, coin: float | None = None) -> Draw:
        """Noise, one whole-numbered time per sample, and which samples see an estimate.

        These are the first share * B of them; a remainder below one sample gets it as often as it should, so
        that the share holds for a batch of one too. `coin` in [0, 1) decides about it; ranks that are given the same
        one split their batches alike. None draws it.
        """
        noise = torch.randn(latents.shape, generator=generator, device=generator.device).to(latents)
        batch = latents.shape[0]
        times = torch.randint(self.schedule.steps, (batch,), generator=generator, device=generator.device).to(
            latents.device
        )
        if coin is None:
            coin = float(torch.rand((), generator=generator, device=generator.device))
        count = math.floor(self.self_conditioning * batch + coin)
        return Draw(noise, times, torch.arange(batch, device=latents.device) < count)

    def noised(self, latents: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        """Latents (B, C, T, H, W) at whole-numbered `times` (B,)."""
        return self.schedule.noised(latents, noise, times)

    def target(self, latents: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        """v = a noise - b latents."""
        a, b = self.schedule.shares(times)
        return a * noise - b * latents

    def clean(self, noisy: Tensor, velocity: Tensor, times: Tensor) -> Tensor:
        """Latents from noisy ones and v."""
        a, b = self.schedule.shares(times)
        return a * noisy - b * velocity

    def noise(self, noisy: Tensor, velocity: Tensor, times: Tensor) -> Tensor:
        """Noise from noisy latents and v."""
        a, b = self.schedule.shares(times)
        return b * noisy + a * velocity

    def loss(
        self,
        model: Denoiser,
        latents: Tensor,
        conditions: Conditions,
        draw: Draw,
        frame_mask: Tensor | None = None,
    ) -> Tensor:
        """Mean squared error of v per sample, (B,) float32.

        Frames whose mask (B, T) is False are given: the model reads them clean in channels of their own, and
        their error does not count. Raises `ValueError` for a model without these channels.
        """
        noisy = self.noised(latents, draw.noise, draw.times)
        estimate = self._estimate(model, noisy, latents, conditions, draw, frame_mask)
        beside = self.channels.beside(noisy, estimate=estimate, given=latents, frame_mask=frame_mask)
        velocity = predict(model, noisy, draw.times, conditions, beside=beside)
        error = (velocity.float() - self.target(latents, draw.noise, draw.times).float()).square()
        return mean_over_generated(error, frame_mask)

    def sample(
        self,
        guided: Guided,
        noise: Tensor,
        steps: int,
        *,
        reference: Reference | None = None,
        guide_frames: bool = False,
        progress: Progress | None = None,
    ) -> Tensor:
        """Latents from `noise` (B, C, T, H, W) by DDIM without added noise, from the last time down to g = 1.

        Frames of strength 0 in `reference` are given and come out exactly; with `guide_frames` they too are
        hidden from the null prediction, so that guidance pushes towards them. The model sees its own guided
        estimate of the step before, the same in both predictions. Raises `ValueError` for a strength between
        0 and 1.
        """
        given, frame_mask = _given(reference, noise)
        latents, estimate = noise, None
        times = self.schedule.trailing(steps)
        for done, now in enumerate(times, start=1):
            here = torch.full((noise.shape[0],), now, device=noise.device)
            beside = self.channels.beside(latents, estimate=estimate, given=given, frame_mask=frame_mask)
            hidden = self.channels.beside(latents, estimate=estimate) if guide_frames else beside
            velocity = guided(latents, here, beside=beside, null_beside=hidden).to(latents.dtype)
            estimate = _keep(self.clean(latents, velocity, here), given, frame_mask)
            left = _keep(self.noise(latents, velocity, here), noise, frame_mask)
            latents = estimate
            if done < steps:
                latents = self.noised(estimate, left, torch.full_like(here, times[done]))
            if progress is not None:
                progress(done, steps)
        return latents

    def _estimate(
        self,
        model: Denoiser,
        noisy: Tensor,
        latents: Tensor,
        conditions: Conditions,
        draw: Draw,
        frame_mask: Tensor | None,
    ) -> Tensor | None:
        """What the model says of the clean latents, for the samples of the draw; zeros for the others.

        The number of passes is the same on every rank and in every step, whatever was drawn: one that waits
        for the others (ZeRO-3) would hang otherwise.
        """
        count = math.ceil(self.self_conditioning * noisy.shape[0])
        if not count or draw.estimated is None:
            return None
        part, times = noisy[:count], draw.times[:count]
        mask = None if frame_mask is None else frame_mask[:count]
        with torch.no_grad():
            beside = self.channels.beside(part, given=latents[:count], frame_mask=mask)
            velocity = predict(model, part, times, conditions.first(count), beside=beside)
            clean = _keep(self.clean(part, velocity, times), latents[:count], mask)
        estimate = torch.zeros_like(noisy)
        chosen = draw.estimated[:count, None, None, None, None]
        estimate[:count] = torch.where(chosen, clean.to(noisy.dtype), 0.0)
        return estimate


def _given(reference: Reference | None, noise: Tensor) -> tuple[Tensor | None, Tensor | None]:
    """Clean latents and the mask (B, T), False on given frames."""
    if reference is None:
        return None, None
    reference.check(noise)
    strength = reference.strength.to(noise.device)
    if ((strength > 0) & (strength < 1)).any():
        raise ValueError(
            "this model reads given frames clean: a strength is 0 (keep) or 1 (generate), not between;"
            " editing needs a rectified-flow model"
        )
    return reference.latents.to(noise), strength > 0


def _keep(values: Tensor, given: Tensor | None, frame_mask: Tensor | None) -> Tensor:
    """`values` (B, C, T, H, W) with those of `given` where the mask (B, T) is False.

    The model is not trained on what it answers there, so its answer goes nowhere.
    """
    if given is None or frame_mask is None:
        return values
    return torch.where(frame_mask[:, None, :, None, None], values, given.to(values.dtype))
