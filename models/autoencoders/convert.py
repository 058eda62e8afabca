"""Weights of the published video autoencoder of Open-Sora 1.2 under our names, and ours under its names.

Only prefixes and the shape of the statistics differ, so both directions keep every value. The published code holds
the factor of the 2D latents as a constant; here it is a statistic of the 2D codec.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from models.autoencoders.config import VideoAutoencoderConfig
from models.autoencoders.video import VideoAutoencoder
from models.checkpoint import State, check_exact, shapes_of
from models.coverage import CoverageReport

PREFIXES = {"spatial_vae.module.": "image.spatial.", "temporal_vae.": "temporal."}  # theirs -> ours
STATISTICS = ("shift", "scale")
SCALING_FACTOR = 0.18215  # of the 2D latents that the temporal model was trained on
IMAGE_STATISTICS = {"image.shift": 0.0, "image.scale": 1 / SCALING_FACTOR}
WHAT = "the state dict"


def open_sora_to_ours(
    state_dict: Mapping[str, Tensor], config: VideoAutoencoderConfig
) -> tuple[State, CoverageReport]:
    """The state of a `VideoAutoencoder` of `config`, value for value.

    Raises `ValueError` for tensors without a place, and where names or shapes are not exactly those of `config`.
    """
    ours: State = {}
    unexplained = []
    for name, value in state_dict.items():
        prefix = next((prefix for prefix in PREFIXES if name.startswith(prefix)), None)
        if prefix is not None:
            ours[PREFIXES[prefix] + name.removeprefix(prefix)] = value
        elif name in STATISTICS:
            ours[name] = value.flatten()
        else:
            unexplained.append(name)
    expected = expected_state(config)
    unexplained += [name for name in ours if name not in expected]
    report = CoverageReport(
        loaded=tuple(name for name in expected if name in ours),
        new=("image.scale",),
        zero_initialised=("image.shift",),
        unexplained=tuple(unexplained),
        notes=(f"2D latents are multiplied by {SCALING_FACTOR}, the constant of the published code",),
    )
    report.require_explained()
    channels = config.image.latent_channels
    ours |= {name: torch.full((channels,), value) for name, value in IMAGE_STATISTICS.items()}
    check_exact(shapes_of(expected), shapes_of(ours), WHAT)
    return ours, report


def ours_to_open_sora(state_dict: Mapping[str, Tensor], config: VideoAutoencoderConfig) -> State:
    """The state of a `VideoAutoencoder` of `config` under the published names, value for value.

    Raises `ValueError` where names or shapes are not those of `config`, and for 2D latents with other statistics than
    the published code has: their layout has no place for them.
    """
    check_exact(shapes_of(expected_state(config)), shapes_of(state_dict), WHAT)
    theirs: State = {}
    for name, value in state_dict.items():
        if name in IMAGE_STATISTICS:
            if not torch.equal(value.float(), torch.full_like(value.float(), IMAGE_STATISTICS[name])):
                raise ValueError(
                    f"{name} is {value.tolist()} and always {IMAGE_STATISTICS[name]} in Open-Sora 1.2, which has no"
                    " place for it; keep these weights in our own layout"
                )
        elif name in STATISTICS:
            theirs[name] = value.view(1, -1, 1, 1, 1)
        else:
            their_prefix, our_prefix = next(pair for pair in PREFIXES.items() if name.startswith(pair[1]))
            theirs[their_prefix + name.removeprefix(our_prefix)] = value
    return theirs


def expected_state(config: VideoAutoencoderConfig) -> State:
    """Names and shapes of a `VideoAutoencoder`, without values."""
    with torch.device("meta"):
        return dict(VideoAutoencoder.build(config).state_dict())
