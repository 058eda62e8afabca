import pytest
import torch

from components.autoencoder.config import ReconstructionConfig
from components.autoencoder.measure import measure_statistics, reconstruction_psnr
from components.autoencoder.objectives import LatentObjective, PixelObjective
from components.autoencoder.program import AutoencoderProgram
from models.autoencoders.losses import psnr
from models.autoencoders.presets import AUTOENCODERS
from tests.tiny_parts import tiny_codec

WEIGHTS = ReconstructionConfig(l1=1.0, mse=0.0, saturation=0.0, kl=0.5)


class Noise:
    """Clips of random pixels, as `FrameBatches` gives them."""

    def batch(self, position, frames=None):
        generator = torch.Generator().manual_seed(position)
        return torch.rand(2, 3, frames or 5, 16, 16, generator=generator) * 2 - 1


def program(objective, **options):
    return AutoencoderProgram(objective, Noise(), frames=5, **options)


def step(objective, position=0):
    trained = program(objective)
    return trained.step(trained.module, position, torch.Generator().manual_seed(position))


def lengths(**options):
    drawn = program(PixelObjective(tiny_codec(), WEIGHTS), **options)
    return [drawn.draw_length(torch.Generator().manual_seed(seed)) for seed in range(400)]


def test_lengths_are_drawn_as_the_stage_says():
    assert set(lengths()) == {5}
    share = lengths(image_share=0.2).count(1) / 400
    assert set(lengths(image_share=0.2)) == {1, 5}
    assert 0.14 < share < 0.26
    counts = torch.bincount(torch.tensor(lengths(mixed_lengths=True)), minlength=6)
    assert counts[0] == 0
    assert counts[1:].min() > 50  # 80 expected


def test_mixed_lengths_of_a_causal_autoencoder_are_those_it_takes():
    codec = AUTOENCODERS["walt-causal-3d-tiny"].build()
    trained = AutoencoderProgram(PixelObjective(codec, WEIGHTS), Noise(), frames=10, mixed_lengths=True)
    drawn = {trained.draw_length(torch.Generator().manual_seed(seed)) for seed in range(100)}
    assert drawn == {1, 5, 9}


def test_pixel_loss_is_reconstruction_plus_weighted_divergence():
    result = step(PixelObjective(tiny_codec(), WEIGHTS))
    expected = result.metrics["reconstruction"] + 0.5 * result.metrics["kl"]
    torch.testing.assert_close(result.loss, expected)


def test_latent_loss_reaches_the_temporal_model_and_not_a_frozen_2d_model():
    codec = tiny_codec()
    codec.image.requires_grad_(False)
    step(LatentObjective(codec, WEIGHTS, identity=False)).loss.backward()
    assert all(parameter.grad is None for parameter in codec.image.parameters())
    assert all(parameter.grad is not None for parameter in codec.temporal.parameters())


@pytest.mark.parametrize(
    ("frames", "identity", "expected"), [(1, True, True), (5, True, False), (1, False, False)]
)
def test_identity_counts_for_single_images_only(frames, identity, expected):
    codec = tiny_codec()
    objective = LatentObjective(codec, WEIGHTS, identity=identity)
    clip = Noise().batch(0, frames)
    loss = objective(clip, torch.Generator().manual_seed(0))
    assert ("identity" in loss.terms) == expected
    if expected:
        latents = codec.image.encode(clip, generator=torch.Generator().manual_seed(0))
        distance = (codec.temporal.posterior(latents).mean - latents).abs().mean()
        torch.testing.assert_close(loss.terms["identity"], distance)
        torch.testing.assert_close(loss.total, loss.terms["reconstruction"] + distance)


def test_measured_statistics_give_latents_of_mean_0_and_deviation_1():
    codec = tiny_codec()
    measure_statistics(codec, Noise(), count=3)
    with torch.no_grad():
        latents = torch.cat([codec.encode(Noise().batch(position)) for position in range(3)])
    torch.testing.assert_close(latents.mean(dim=(0, 2, 3, 4)), torch.zeros(4), atol=1e-4, rtol=0)
    torch.testing.assert_close(latents.std(dim=(0, 2, 3, 4), correction=0), torch.ones(4), atol=1e-4, rtol=0)


def test_psnr_is_the_mean_over_the_clips_of_all_batches():
    codec = tiny_codec()
    clips = torch.cat([Noise().batch(position) for position in range(2)])
    with torch.no_grad():
        expected = psnr(codec.decode(codec.encode(clips), 5), clips).mean().item()
    assert reconstruction_psnr(codec, Noise(), count=2) == pytest.approx(expected, abs=1e-3)
