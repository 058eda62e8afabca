"""v-prediction: the algebra, the loss written out by hand, sampling against diffusers and a known distribution."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler

from models.diffusion import (
    Conditions,
    Draw,
    Guided,
    InputChannels,
    NoiseSchedule,
    Reference,
    VPrediction,
)

SHAPE = (4, 2, 3, 4, 5)  # B, C, T, H, W
WALT = InputChannels(estimate=True, frames=True)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def conditions(batch: int) -> Conditions:
    return Conditions(
        text=normal(batch, 3, 6, seed=9),
        text_mask=torch.ones(batch, 3),
        fps=torch.ones(batch),
        size=torch.ones(batch, 2),
    )


class Network:
    """A denoiser with a formula; every input channel has an effect on every output channel."""

    def __init__(self) -> None:
        self.calls = []

    def __call__(self, latents, timestep, text, text_mask, *, fps, size, frame_mask=None):
        self.calls.append(latents.detach().clone())
        assert torch.is_grad_enabled() == (len(self.calls) == self.with_gradient)
        shift = text.mean(dim=(1, 2)) + timestep / 1000
        return (
            0.3 * latents[:, :2] + 0.1 * latents.mean(dim=1, keepdim=True) + shift[:, None, None, None, None]
        )

    with_gradient = 1  # the call that must see gradients


class TwoPasses(Network):
    with_gradient = 2


TIMES = torch.tensor([0, 400, 800, 999])


def test_latents_and_noise_come_back_from_v_at_every_time():
    flow, latents, noise = VPrediction(), normal(1000, 2, 1, 2, 2), normal(1000, 2, 1, 2, 2, seed=1)
    times = torch.arange(1000)
    noisy, velocity = flow.noised(latents, noise, times), flow.target(latents, noise, times)
    assert torch.allclose(flow.clean(noisy, velocity, times), latents, atol=1e-5)
    assert torch.allclose(flow.noise(noisy, velocity, times), noise, atol=1e-5)


def test_at_pure_noise_v_is_the_negative_of_the_latents():
    latents, noise, last = normal(*SHAPE), normal(*SHAPE, seed=1), torch.full((4,), 999)
    assert torch.equal(VPrediction().target(latents, noise, last), -latents)


def test_the_true_v_has_no_loss():
    latents, noise, flow = normal(*SHAPE), normal(*SHAPE, seed=1), VPrediction()

    def exact(x, timestep, *_, **__):
        return flow.target(latents, noise, timestep)

    assert flow.loss(exact, latents, conditions(4), Draw(noise, TIMES)).max() == 0


def test_loss_equals_the_sum_written_out_by_hand():
    latents, noise, told = normal(*SHAPE), normal(*SHAPE, seed=1), conditions(4)
    mask = torch.tensor([[1, 1, 1], [0, 1, 1], [0, 0, 1], [1, 1, 1]], dtype=torch.bool)
    objective = VPrediction(channels=WALT, self_conditioning=0.5)
    draw = Draw(noise, TIMES, torch.tensor([True, True, False, False]))
    loss = objective.loss(TwoPasses(), latents, told, draw, mask)

    x, n, text = latents.double().numpy(), noise.double().numpy(), told.text.double().numpy()
    root = np.sqrt(np.cumprod(1 - np.linspace(1e-4, 2e-2, 1000)))
    root = (root - root[-1]) * root[0] / (root[0] - root[-1])

    def network(b, noisy, estimate, shown, marks):
        inputs = np.concatenate([noisy, estimate, shown, marks])
        shift = text[b].mean() + TIMES[b].item() / 1000
        return 0.3 * noisy + 0.1 * inputs.mean(axis=0, keepdims=True) + shift

    for b in range(4):
        a = root[TIMES[b]]
        sigma = np.sqrt(1 - a**2)
        noisy = a * x[b] + sigma * n[b]
        given = ~mask[b].numpy()
        shown = np.where(given[None, :, None, None], x[b], 0)
        marks = np.broadcast_to(given[None, :, None, None], (1, *noisy.shape[1:])).astype(float)
        estimate = np.zeros_like(noisy)
        if b < 2:
            estimate = a * noisy - sigma * network(b, noisy, estimate, shown, marks)
            estimate[:, given] = x[b][:, given]
        error = network(b, noisy, estimate, shown, marks) - (a * n[b] - sigma * x[b])
        assert loss[b].item() == pytest.approx(np.square(error[:, ~given]).mean(), rel=1e-5)


class TestSelfConditioning:
    latents, noise = normal(*SHAPE), normal(*SHAPE, seed=1)

    def seen(self, share, estimated):
        network = TwoPasses() if share else Network()
        objective = VPrediction(channels=InputChannels(estimate=True), self_conditioning=share)
        draw = Draw(self.noise, TIMES, estimated)
        objective.loss(network, self.latents, conditions(4), draw)
        return network.calls

    def test_the_first_samples_see_an_estimate_and_the_rest_zeros(self):
        first, second = self.seen(0.5, torch.tensor([True, True, False, False]))
        assert first.shape[0] == 2  # only they need the first pass
        assert (first[:, 2:] == 0).all()
        assert (second[:2, 2:] != 0).any(dim=(1, 2, 3, 4)).all()
        assert (second[2:, 2:] == 0).all()

    def test_the_number_of_passes_does_not_depend_on_the_draw(self):
        """One rank with another number of passes than the rest would wait forever under ZeRO-3."""
        for drawn in (torch.zeros(4, dtype=torch.bool), torch.ones(4, dtype=torch.bool)):
            assert [len(call) for call in self.seen(0.9, drawn)] == [4, 4]

    def test_without_self_conditioning_there_is_one_pass_and_the_channels_are_zero(self):
        (only,) = self.seen(0.0, torch.zeros(4, dtype=torch.bool))
        assert (only[:, 2:] == 0).all()

    @pytest.mark.parametrize("batch", [1, 2, 5])
    def test_the_share_holds_for_every_batch_size(self, batch):
        objective = VPrediction(channels=WALT, self_conditioning=0.9)
        generator, counts = torch.Generator().manual_seed(0), []
        for _ in range(600):
            estimated = objective.draw(torch.zeros(batch, 1, 1, 1, 1), generator).estimated
            assert estimated.tolist() == sorted(estimated.tolist(), reverse=True)  # the first ones
            counts.append(estimated.float().mean().item())
        assert np.mean(counts) == pytest.approx(0.9, abs=0.03)
        assert len({round(count * batch) for count in counts}) <= 2

    def test_a_share_without_channels_for_it_is_refused(self):
        with pytest.raises(ValueError, match="estimate=True"):
            VPrediction(self_conditioning=0.9)
        with pytest.raises(ValueError, match=r"0\.\.1, not 1.5"):
            VPrediction(channels=WALT, self_conditioning=1.5)


class TestFramePrediction:
    latents, noise = normal(*SHAPE), normal(*SHAPE, seed=1)
    mask = torch.tensor([[0, 1, 1], [0, 0, 1], [1, 1, 1], [0, 1, 1]], dtype=torch.bool)

    def test_given_frames_are_shown_clean_and_marked_and_stay_noisy_otherwise(self):
        network = Network()
        objective = VPrediction(channels=InputChannels(frames=True))
        objective.loss(network, self.latents, conditions(4), Draw(self.noise, TIMES), self.mask)
        noisy, shown, marks = network.calls[0].split([2, 2, 1], dim=1)
        given = (~self.mask)[:, None, :, None, None].expand_as(shown)
        assert torch.equal(noisy, objective.noised(self.latents, self.noise, TIMES))
        assert torch.equal(shown[given], self.latents[given])
        assert (shown[~given] == 0).all()
        assert torch.equal(marks.amax(dim=(1, 3, 4)).bool(), ~self.mask)

    def test_an_error_in_given_frames_does_not_count(self):
        def answer(value):
            def model(x, *_, **__):
                out = torch.zeros_like(x[:, :2])
                return torch.where(self.mask[:, None, :, None, None], out, value)

            return model

        objective = VPrediction(channels=InputChannels(frames=True))
        draw = Draw(self.noise, TIMES)
        losses = [
            objective.loss(answer(value), self.latents, conditions(4), draw, self.mask)
            for value in (0.0, 1e3)
        ]
        assert torch.equal(losses[0], losses[1])

    def test_a_model_without_the_channels_cannot_be_given_frames(self):
        with pytest.raises(ValueError, match="no channels for them"):
            VPrediction().loss(Network(), self.latents, conditions(4), Draw(self.noise, TIMES), self.mask)


@pytest.mark.parametrize(
    ("channels", "count"),
    [(WALT, 25), (InputChannels(), 8), (InputChannels(estimate=True), 16), (InputChannels(frames=True), 17)],
)
def test_input_channels_of_eight_latent_ones(channels, count):
    beside = channels.beside(normal(1, 8, 3, 2, 2))
    assert channels.count(8) == count == 8 + (0 if beside is None else beside.shape[1])


def bound(model, scale: float = 1.0, **options) -> Guided:
    return Guided(model, conditions(4), conditions(4), scale, **options)


@pytest.mark.parametrize("steps", [1, 4, 50])
def test_the_sampler_takes_the_steps_of_diffusers_trailing_ddim(steps):
    theirs = DDIMScheduler(
        beta_schedule="linear",
        beta_start=1e-4,
        beta_end=2e-2,
        clip_sample=False,
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
    )
    theirs.set_timesteps(steps)

    def model(x, timestep, *_, **__):
        return torch.tanh(x) * 0.7 + (timestep / 1000)[:, None, None, None, None]

    expected = noise = normal(*SHAPE)
    for time in theirs.timesteps:
        velocity = model(expected, time.expand(4))
        expected = theirs.step(velocity, time, expected, return_dict=False)[0]
    assert torch.allclose(VPrediction().sample(bound(model), noise, steps), expected, atol=2e-5)


def test_sampling_reaches_a_gaussian_with_the_exact_v():
    mean, deviation, schedule = 0.5, 0.2, NoiseSchedule()

    def exact(x, timestep, *_, **__):
        a, b = schedule.shares(timestep)
        variance = a**2 * deviation**2 + b**2
        noise = b / variance * (x - a * mean)
        clean = mean + a * deviation**2 / variance * (x - a * mean)
        return a * noise - b * clean

    noise = normal(4, 1, 1, 40, 40)
    made = VPrediction(schedule=schedule).sample(bound(exact), noise, 500)
    assert torch.allclose(made, mean + deviation * noise, atol=0.02)


def test_the_sampler_carries_its_guided_estimate_into_both_branches():
    seen = []

    def velocity(x, text):
        return 0.5 * x[:, :2] + text.mean(dim=(1, 2))[:, None, None, None, None]

    def model(x, timestep, text, *_, **__):
        seen.append((x.clone(), timestep.clone(), velocity(x, text)))
        return seen[-1][2]

    objective = VPrediction(channels=InputChannels(estimate=True), self_conditioning=0.9)
    null = Conditions(**{**conditions(4).present(), "text": 1 + conditions(4).text})
    objective.sample(Guided(model, conditions(4), null, 3.0), normal(*SHAPE), 3)
    assert (seen[0][0][:, 2:] == 0).all()  # nothing is known yet
    for (before, times, answer), (after, _, _) in pairwise(seen):
        conditional, unguided = answer.chunk(2)
        guided = unguided + 3 * (conditional - unguided)
        estimate = objective.clean(before[:4, :2], guided, times[:4])
        assert torch.allclose(after[:4, 2:], estimate, atol=1e-5)
        assert torch.equal(after[:4, 2:], after[4:, 2:])


class TestGivenFrames:
    objective = VPrediction(channels=WALT, self_conditioning=0.9)
    given = normal(*SHAPE, seed=5)
    noise = normal(*SHAPE, seed=6)

    def made(self, strength, **options):
        calls = []

        def model(x, timestep, *_, **__):
            calls.append((x.clone(), timestep.clone()))
            return 9.0 + x[:, :2]  # wrong everywhere, also in given frames

        reference = Reference(self.given, torch.tensor([strength] * 4))
        guided = bound(model, scale=2.0 if options else 1.0)
        return self.objective.sample(guided, self.noise, 5, reference=reference, **options), calls

    def test_they_come_out_exactly(self):
        made, _ = self.made([0.0, 0.0, 1.0])
        assert torch.equal(made[:, :, :2], self.given[:, :, :2])
        assert not torch.isclose(made[:, :, 2], self.given[:, :, 2]).any()

    def test_the_model_sees_them_as_in_training(self):
        _, calls = self.made([0.0, 1.0, 1.0])
        for x, timestep in calls:
            noisy, estimate, shown, marks = x.split([2, 2, 2, 1], dim=1)
            expected = self.objective.noised(self.given, self.noise, timestep)
            assert torch.allclose(noisy[:, :, 0], expected[:, :, 0], atol=1e-6)
            assert torch.equal(shown[:, :, 0], self.given[:, :, 0])
            assert (shown[:, :, 1:] == 0).all()
            assert marks.amax(dim=(0, 1, 3, 4)).tolist() == [1, 0, 0]
            assert timestep[0] == 999 or torch.equal(estimate[:, :, 0], self.given[:, :, 0])

    def test_guided_frames_are_hidden_from_the_null_prediction(self):
        _, calls = self.made([0.0, 1.0, 1.0], guide_frames=True)
        for x, _ in calls:
            conditional, null = x[:, 4:].chunk(2)
            assert (conditional != 0).any()
            assert (null == 0).all()

    def test_an_edit_strength_is_refused(self):
        with pytest.raises(ValueError, match="not between"):
            self.made([0.0, 0.4, 1.0])


def test_the_sampler_reports_every_step():
    seen = []
    guided = bound(lambda x, *_, **__: x)
    VPrediction().sample(guided, normal(*SHAPE), 3, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]
