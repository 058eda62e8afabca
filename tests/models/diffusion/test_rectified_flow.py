"""Rectified flow: the loss against a hand computation, sampling against known solutions, guidance."""

import numpy as np
import pytest
import torch

from models.diffusion import (
    Conditions,
    Draw,
    Guided,
    RectifiedFlow,
    Reference,
    Times,
    drop_captions,
    sample_euler,
)

SHAPE = (3, 2, 4, 5, 6)  # B, C, T, H, W


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def conditions(batch: int, seed: int = 9) -> Conditions:
    return Conditions(
        text=normal(batch, 7, 8, seed=seed),
        text_mask=torch.ones(batch, 7, dtype=torch.bool),
        fps=torch.full((batch,), 8.0),
        size=torch.full((batch, 2), 32.0),
    )


class Network:
    """A denoiser with a formula: output depends on latents, time, text and mask; 2C channels out."""

    def __init__(self) -> None:
        self.calls = []

    def __call__(self, latents, timestep, text, text_mask, *, fps, size, frame_mask=None):
        self.calls.append((latents, timestep, frame_mask))
        shift = text.mean(dim=(1, 2)) + timestep / 1000 + fps / 100
        output = 0.5 * latents + shift[:, None, None, None, None]
        return torch.cat([output, torch.full_like(output, 1e6)], dim=1)


def test_loss_equals_the_sum_written_out_by_hand():
    latents, noise, told = normal(*SHAPE), normal(*SHAPE, seed=1), conditions(3)
    times = torch.tensor([100.0, 550.0, 1000.0])
    mask = torch.tensor([[1, 1, 1, 1], [0, 1, 1, 0], [0, 0, 0, 1]], dtype=torch.bool)
    loss = RectifiedFlow().loss(Network(), latents, told, Draw(noise, times), mask)

    x, n, text = latents.double().numpy(), noise.double().numpy(), told.text.double().numpy()
    for b in range(3):
        t, squares, count = times[b].item() / 1000, 0.0, 0
        for f in range(4):
            if not mask[b, f]:
                continue
            noisy = (1 - t) * x[b, :, f] + t * n[b, :, f]
            velocity = 0.5 * noisy + text[b].mean() + t + 0.08
            squares += np.square(velocity - (x[b, :, f] - n[b, :, f])).sum()
            count += noisy.size
        assert loss[b].item() == pytest.approx(squares / count, rel=1e-5)


def test_given_frames_reach_the_model_clean_and_with_their_mask():
    latents, network = normal(*SHAPE), Network()
    mask = torch.tensor([[0, 1, 1, 0]] * 3, dtype=torch.bool)
    draw = Draw(normal(*SHAPE, seed=1), torch.full((3,), 800.0))
    RectifiedFlow().loss(network, latents, conditions(3), draw, mask)
    seen, _, seen_mask = network.calls[0]
    assert torch.equal(seen[:, :, [0, 3]], latents[:, :, [0, 3]])
    assert not torch.isclose(seen[:, :, [1, 2]], latents[:, :, [1, 2]]).all()
    assert torch.equal(seen_mask, mask)


def test_an_error_in_given_frames_does_not_count():
    latents, told, flow = normal(*SHAPE), conditions(3), RectifiedFlow()
    mask = torch.tensor([[0, 1, 1, 1]] * 3, dtype=torch.bool)
    noise = normal(*SHAPE, seed=1)
    other = noise.clone()
    other[:, :, 0] += 100
    times = torch.full((3,), 400.0)
    same = [flow.loss(Network(), latents, told, Draw(n, times), mask) for n in (noise, other)]
    assert torch.equal(same[0], same[1])


def test_the_true_velocity_has_no_loss():
    latents, noise = normal(*SHAPE), normal(*SHAPE, seed=1)

    def exact(*_, **__):
        return latents - noise

    draw = Draw(noise, torch.tensor([10.0, 500.0, 900.0]))
    assert RectifiedFlow().loss(exact, latents, conditions(3), draw).max() == 0


def test_the_draw_depends_on_the_generator_alone():
    flow = RectifiedFlow(Times(distribution="logit-normal", shift=True))
    latents, size = normal(*SHAPE), torch.full((3, 2), 32.0)
    one, two = (flow.draw(latents, size, torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(one.noise, two.noise)
    assert torch.equal(one.times, two.times)


@pytest.mark.parametrize("shift", [False, True])
@pytest.mark.parametrize("steps", [1, 3, 10])
def test_the_sampler_follows_a_straight_path_to_the_data_in_any_number_of_steps(steps, shift):
    data, noise = normal(*SHAPE), normal(*SHAPE, seed=1)
    times = Times(shift=shift).schedule(
        steps, torch.tensor([[32, 32], [64, 32], [512, 512]]), latent_frames=4
    )
    made = sample_euler(lambda x, t, m: data - noise, noise, times)
    assert torch.allclose(made, data, atol=1e-5)


def test_the_sampler_integrates_the_field_of_a_gaussian():
    """Data ~ N(m, s^2) has the marginal velocity in closed form; its flow maps noise n to m + s n."""
    mean, deviation = 0.7, 0.3
    noise = normal(2, 1, 1, 20, 20)

    def velocity(x, times, mask):
        t = (times / 1000)[:, None, None, None, None]
        variance = (1 - t) ** 2 * deviation**2 + t**2
        data = mean + (1 - t) * deviation**2 / variance * (x - (1 - t) * mean)
        return data - t / variance * (x - (1 - t) * mean)  # E[x_0 | x_t] - E[noise | x_t]

    made = sample_euler(velocity, noise, Times().schedule(400, torch.ones(2, 2), latent_frames=1))
    assert torch.allclose(made, mean + deviation * noise, atol=0.02)


def test_the_sampler_reports_every_step():
    seen = []
    noise = normal(1, 1, 1, 2, 2)
    times = Times().schedule(4, torch.ones(1, 2), latent_frames=1)
    sample_euler(lambda x, t, m: x, noise, times, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


class TestReference:
    noise = normal(*SHAPE, seed=1)
    given = normal(*SHAPE, seed=2)
    times = Times().schedule(10, torch.ones(3, 2), latent_frames=4)

    def made(self, strength, velocity):
        rows = torch.tensor([strength] * 3)
        return sample_euler(velocity, self.noise, self.times, reference=Reference(self.given, rows))

    def test_kept_frames_come_out_exactly_and_others_are_generated(self):
        made = self.made([0.0, 1.0, 1.0, 0.0], lambda x, t, m: torch.ones_like(x))
        assert torch.equal(made[:, :, [0, 3]], self.given[:, :, [0, 3]])
        assert torch.allclose(made[:, :, [1, 2]], self.noise[:, :, [1, 2]] + 1, atol=1e-5)

    def test_the_model_is_told_which_frames_move(self):
        masks = []

        def velocity(x, t, mask):
            masks.append(mask[0].tolist())
            return torch.zeros_like(x)

        self.made([0.0, 1.0, 0.45, 1.0], velocity)
        assert masks[:6] == [[False, True, False, True]] * 6  # times 1000 .. 500
        assert masks[6:] == [[False, True, True, True]] * 4  # times 400 .. 100

    def test_an_edited_frame_starts_from_the_reference_with_noise_of_its_level(self):
        made = self.made([1.0, 1.0, 0.45, 1.0], lambda x, t, m: torch.zeros_like(x))
        expected = 0.6 * self.given[:, :, 2] + 0.4 * self.noise[:, :, 2]  # active from time 400 on
        assert torch.allclose(made[:, :, 2], expected, atol=1e-6)

    def test_generating_every_frame_equals_sampling_without_reference(self):
        plain = sample_euler(lambda x, t, m: 0.3 * x, self.noise, self.times)
        assert torch.equal(self.made([1.0] * 4, lambda x, t, m: 0.3 * x), plain)

    def test_a_strength_of_another_shape_is_refused(self):
        reference = Reference(self.given, torch.ones(3, 5))
        with pytest.raises(ValueError, match="latent frames"):
            sample_euler(lambda x, t, m: x, self.noise, self.times, reference=reference)


def guided(scale: float, network: Network) -> torch.Tensor:
    told, null = conditions(3), conditions(3, seed=10)
    return Guided(network, told, null, scale)(normal(*SHAPE), torch.full((3,), 300.0))


def test_guidance_of_scale_one_is_the_conditional_prediction_in_one_pass():
    network = Network()
    once = guided(1.0, network)
    assert network.calls[0][0].shape[0] == 3
    assert torch.allclose(once, guided(1.0 + 1e-6, Network()), atol=1e-5)


def test_guidance_is_linear_in_the_scale_and_zero_is_the_null_prediction():
    null_only = Guided(Network(), conditions(3, seed=10), conditions(3), 1.0)
    null = null_only(normal(*SHAPE), torch.full((3,), 300.0))
    conditional = guided(1.0, Network())
    assert torch.allclose(guided(0.0, Network()), null, atol=1e-6)
    assert torch.allclose(guided(4.0, Network()), null + 4 * (conditional - null), atol=1e-5)


def test_captions_are_dropped_whole_and_at_the_given_rate():
    text, null = normal(4000, 3, 2), torch.full((3, 2), 7.0)
    dropped = drop_captions(text, null, probability=0.1, generator=torch.Generator().manual_seed(0))
    replaced = (dropped == 7).all(dim=(1, 2))
    assert replaced.float().mean().item() == pytest.approx(0.1, abs=0.02)
    assert torch.equal(dropped[~replaced], text[~replaced])
