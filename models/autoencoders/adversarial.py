"""Adversarial terms of an autoencoder's training: losses on logits, their regularisers, the generator's weight.

Logits are (B,), positive for clips that look real; all losses are means over the batch.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

MAX_WEIGHT = 1e4
WEIGHT_EPS = 1e-4


@dataclass(frozen=True)
class AdversarialLoss:
    """What the two sides minimise."""

    discriminator: Callable[[Tensor, Tensor], Tensor]  # (logits of real clips, of made ones)
    generator: Callable[[Tensor], Tensor]  # (logits of made clips)


def _hinge(real: Tensor, made: Tensor) -> Tensor:
    return 0.5 * (functional.relu(1 - real).mean() + functional.relu(1 + made).mean())


def _logistic(real: Tensor, made: Tensor) -> Tensor:
    return functional.softplus(-real).mean() + functional.softplus(made).mean()


ADVERSARIAL_LOSSES: Mapping[str, AdversarialLoss] = {
    "hinge": AdversarialLoss(_hinge, lambda made: -made.mean()),  # Open-Sora 1.2 (off in its recipes)
    "non-saturating": AdversarialLoss(_logistic, lambda made: functional.softplus(-made).mean()),  # MAGVIT
}


def r1_penalty(discriminator: Callable[[Tensor], Tensor], real: Tensor) -> Tensor:
    """Mean over the batch of the squared length of the gradient of the logits by the pixels of real clips.

    No factor 1/2 is in it. The result has a gradient of its own: the discriminator must be twice differentiable.
    """
    pixels = real.detach().requires_grad_(True)
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(discriminator(pixels).sum(), pixels, create_graph=True)
    return gradient.square().flatten(1).sum(dim=1).mean()


class LeCam(nn.Module):
    """LeCAM regularisation: logits of real clips near the running mean of made ones, and the other way round.

    relu(D(real) - mean_made)^2 + relu(mean_real - D(made))^2 on the batch's mean logits. The running means are
    buffers, so that a resumed run goes on with them.
    """

    mean_real: Tensor
    mean_made: Tensor

    def __init__(self, decay: float = 0.999) -> None:
        super().__init__()
        self.decay = decay
        self.register_buffer("mean_real", torch.zeros(()))
        self.register_buffer("mean_made", torch.zeros(()))

    @torch.no_grad()
    def update(self, real: Tensor, made: Tensor) -> None:
        """Move the running means towards these logits; call once per step of the discriminator."""
        self.mean_real.lerp_(real.float().mean(), 1 - self.decay)
        self.mean_made.lerp_(made.float().mean(), 1 - self.decay)

    def forward(self, real: Tensor, made: Tensor) -> Tensor:
        """The penalty, with the running means as they are."""
        above = functional.relu(real.float().mean() - self.mean_made)
        below = functional.relu(self.mean_real - made.float().mean())
        return above.square() + below.square()


def adaptive_weight(reconstruction: Tensor, adversarial: Tensor, last_layer: Tensor) -> Tensor:
    """Weight of the generator's term that makes its gradient at the last layer as long as the other losses'.

    Open-Sora 1.2's option, from VQGAN: |grad reconstruction| / (|grad adversarial| + 1e-4), at most 1e4, without a
    gradient. `last_layer` is the weight of the decoder's last convolution.
    """
    lengths = [
        torch.autograd.grad(loss, last_layer, retain_graph=True)[0].float().norm()
        for loss in (reconstruction, adversarial)
    ]
    ratio: Tensor = lengths[0] / (lengths[1] + WEIGHT_EPS)
    return ratio.clamp(0, MAX_WEIGHT).detach()
