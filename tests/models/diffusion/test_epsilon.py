"""The DDPM objective: its schedule in closed form, and sampling of a distribution whose score is known."""

import torch

from models.diffusion import Conditions, Draw, Guided
from models.diffusion.epsilon import EpsilonDiffusion


def conditions(batch: int) -> Conditions:
    return Conditions(
        text=torch.zeros(batch, 2, 3),
        text_mask=torch.ones(batch, 2),
        fps=torch.ones(batch),
        size=torch.ones(batch, 2),
    )


def signal_share() -> torch.Tensor:
    """abar of the linear schedule, from its definition."""
    return torch.cumprod(1 - torch.linspace(1e-4, 2e-2, 1000, dtype=torch.float64), dim=0)


def test_noising_follows_the_linear_schedule():
    latents, noise = torch.ones(3, 1, 1, 2, 2), torch.full((3, 1, 1, 2, 2), 2.0)
    times = torch.tensor([0, 500, 999])
    abar = signal_share()[times]
    expected = (abar.sqrt() + 2 * (1 - abar).sqrt()).float()
    noisy = EpsilonDiffusion().noised(latents, noise, times)
    assert torch.allclose(noisy[:, 0, 0, 0, 0], expected, atol=1e-5)


def test_the_loss_compares_the_first_half_of_the_channels_with_the_noise():
    latents, noise = torch.randn(2, 3, 1, 4, 4), torch.randn(2, 3, 1, 4, 4)

    def model(x, *_, **__):
        return torch.cat([noise + torch.tensor([1.0, 2.0])[:, None, None, None, None], 99 + noise], dim=1)

    loss = EpsilonDiffusion().loss(model, latents, conditions(2), Draw(noise, torch.tensor([3, 700])))
    assert torch.allclose(loss, torch.tensor([1.0, 4.0]), atol=1e-5)


def test_times_cover_the_whole_schedule():
    draw = EpsilonDiffusion().draw(torch.zeros(5000, 1, 1, 1, 1), torch.Generator().manual_seed(0))
    assert draw.times.min() >= 0
    assert draw.times.max() <= 999
    assert draw.times.unique().numel() > 950


def test_sampling_reaches_a_gaussian_with_the_exact_noise_prediction():
    mean, deviation, abar = 0.5, 0.2, signal_share()

    def exact(x, timestep, *_, **__):
        share = abar[timestep.long()][:, None, None, None, None].to(x)
        variance = share * deviation**2 + 1 - share
        return (1 - share).sqrt() / variance * (x - share.sqrt() * mean)

    noise = torch.randn(2, 1, 1, 40, 40, generator=torch.Generator().manual_seed(0))
    guided = Guided(exact, conditions(2), conditions(2), 1.0)
    made = EpsilonDiffusion().sample(guided, noise, 50)
    assert abs(made.mean().item() - mean) < 0.03
    assert abs(made.std().item() - deviation) < 0.03


def test_pixart_answers_like_a_video_transformer_on_still_images():
    from diffusers import PixArtTransformer2DModel

    from models.diffusion.pixart import PixArtDenoiser

    torch.manual_seed(0)
    inner = PixArtTransformer2DModel(
        num_attention_heads=2,
        attention_head_dim=8,
        in_channels=3,
        out_channels=6,
        num_layers=1,
        cross_attention_dim=16,
        sample_size=8,
        caption_channels=5,
        use_additional_conditions=False,
    )
    model = PixArtDenoiser(inner, torch.zeros(4, 5))
    latents, text = torch.randn(2, 3, 1, 4, 6), torch.randn(2, 4, 5)
    mask = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1]])
    told = Conditions(text=text, text_mask=mask, fps=torch.ones(2), size=torch.ones(2, 2))
    loss = EpsilonDiffusion().loss(model, latents, told, Draw(latents, torch.tensor([3, 700])))
    assert loss.shape == (2,)
    other = text.clone()
    other[0, 2:] += 5  # behind the mask
    change = model(latents, torch.tensor([3, 700]), other, mask, fps=None, size=None) - model(
        latents, torch.tensor([3, 700]), text, mask, fps=None, size=None
    )
    assert change.abs().max() < 1e-5
