"""The discriminator that is trained in the same steps as a codec, and what the two minimise.

One module, one optimizer: the codec's term reaches the pixels and never the discriminator, the discriminator's term
never the codec, so the sum of both has the gradients of two players who move at once (MAGVIT).
"""

import torch
from torch import Tensor, nn

from components.autoencoder.config import AdversarialConfig
from models.autoencoders.adversarial import ADVERSARIAL_LOSSES, LeCam, adaptive_weight, r1_penalty
from models.autoencoders.discriminator import Discriminator3d, DiscriminatorConfig


class Adversary(nn.Module):
    """A discriminator of clips (B, 3, T, H, W) of one size, its regularisers, and the codec's term."""

    def __init__(self, config: AdversarialConfig, size: tuple[int, int, int]) -> None:
        """size: frames, height and width of what the codec reconstructs."""
        super().__init__()
        frames, height, width = size
        model = config.model
        self.config = config
        self.losses = ADVERSARIAL_LOSSES[config.loss]
        self.lecam = LeCam(config.lecam_decay)
        self.discriminator = Discriminator3d(
            DiscriminatorConfig(
                frames=frames,
                height=height,
                width=width,
                filters=model.filters,
                multipliers=model.multipliers,
                taps=model.taps,
            )
        )

    def codec_terms(
        self, output: Tensor, reconstruction: Tensor, last_layer: nn.Parameter
    ) -> dict[str, Tensor]:
        """What the codec adds to its losses: `generator`, weighted.

        output: the reconstructed clips; `reconstruction` is the codec's other loss, which an adaptive weight compares
        with at `last_layer`.
        """
        term = self._term_of_pixels(output)
        weight: Tensor | float = self.config.weight
        if self.config.adaptive:
            weight = self.config.weight * adaptive_weight(reconstruction, term, last_layer)
        return {"generator": weight * term}

    def own_terms(self, output: Tensor, target: Tensor) -> dict[str, Tensor]:
        """What the discriminator minimises on real and reconstructed clips, weighted; the running means move."""
        real, made = self.discriminator(target).float(), self.discriminator(output.detach()).float()
        terms = {"discriminator": self.losses.discriminator(real, made)}
        if self.config.r1:
            terms["r1"] = self.config.r1 * r1_penalty(self.discriminator, target)
        if self.config.lecam:
            terms["lecam"] = self.config.lecam * self.lecam(real, made)
            self.lecam.update(*_over_processes(real, made))
        return terms

    def _term_of_pixels(self, output: Tensor) -> Tensor:
        """The codec's loss on the discriminator's logits, as a function of the pixels alone.

        Its gradient by the pixels is taken here and handed on, so none is left at the discriminator's weights.
        """
        pixels = output.detach().requires_grad_(True)
        with torch.enable_grad():
            value = self.losses.generator(self.discriminator(pixels).float())
            (gradient,) = torch.autograd.grad(value, pixels)
        return value.detach() + (gradient * (output - output.detach())).sum()


def _over_processes(*logits: Tensor) -> list[Tensor]:
    """Mean logits over all processes, so that all of them keep the same running means."""
    means = torch.stack([values.detach().mean() for values in logits])
    if torch.distributed.is_initialized() and torch.distributed.get_world_size() > 1:
        torch.distributed.all_reduce(means)
        means /= torch.distributed.get_world_size()
    return list(means)
