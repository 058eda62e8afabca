"""Guidance: rescale as in diffusers, scales that depend on time, and what stands for the null condition."""

import math

import pytest
import torch
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import rescale_noise_cfg

from models.diffusion import Conditions, Guided, PowerCosine
from models.diffusion.guidance import rescaled

SHAPE = (2, 3, 2, 4, 4)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def conditions(seed: int, **extras: torch.Tensor) -> Conditions:
    return Conditions(
        text=normal(2, 5, 6, seed=seed),
        text_mask=torch.ones(2, 5),
        fps=torch.ones(2),
        size=torch.ones(2, 2),
        **extras,
    )


def model(x, timestep, text, text_mask, **_):
    words = (text * text_mask[..., None]).mean(dim=(1, 2))
    return torch.sin(x) + words[:, None, None, None, None] * torch.cos(x)


TOLD, NULL = conditions(1), conditions(2)
LATENTS, TIMES = normal(*SHAPE), torch.tensor([900.0, 200.0])


def predictions():
    one, two = (Guided(model, told, told, 1.0)(LATENTS, TIMES) for told in (TOLD, NULL))
    return one, two


@pytest.mark.parametrize("share", [0.0, 0.3, 0.7, 1.0])
def test_rescale_is_that_of_diffusers(share):
    conditional, null = predictions()
    plain = null + 7 * (conditional - null)
    made = Guided(model, TOLD, NULL, 7.0, share)(LATENTS, TIMES)
    assert torch.allclose(made, rescale_noise_cfg(plain, conditional, share), atol=1e-5)


def test_full_rescale_gives_each_sample_the_spread_of_its_conditional_prediction():
    conditional, wide = predictions()[0], 5 * normal(*SHAPE, seed=3)
    spread = rescaled(wide, conditional, 1.0).std(dim=(1, 2, 3, 4))
    assert torch.allclose(spread, conditional.std(dim=(1, 2, 3, 4)), atol=1e-5)


def test_power_cosine_grows_from_none_to_the_whole_scale():
    scale = PowerCosine(6.0, 4.0)
    times = torch.tensor([1000.0, 750.0, 500.0, 0.0])
    expected = [1 + 5 * (1 - math.cos(math.pi * (1 - t / 1000) ** 4)) / 2 for t in times.tolist()]
    assert scale(times).tolist() == pytest.approx(expected)
    assert scale(times)[[0, 3]].tolist() == pytest.approx([1.0, 6.0])
    assert (scale(torch.linspace(1000, 0, 40)).diff() >= 0).all()


def test_a_scale_may_differ_from_sample_to_sample():
    conditional, null = predictions()
    made = Guided(model, TOLD, NULL, lambda times: times / 100)(LATENTS, TIMES)
    for sample, scale in enumerate((9.0, 2.0)):
        expected = null[sample] + scale * (conditional[sample] - null[sample])
        assert torch.allclose(made[sample], expected, atol=1e-5)


def test_a_negative_prompt_is_read_with_its_own_mask():
    short = Conditions(**{**NULL.present(), "text_mask": torch.tensor([[1.0, 1, 0, 0, 0]] * 2)})
    other = Conditions(
        **{**short.present(), "text": torch.cat([NULL.text[:, :2], 9 + NULL.text[:, 2:]], dim=1)}
    )
    one, two = (Guided(model, TOLD, null, 3.0)(LATENTS, TIMES) for null in (short, other))
    assert torch.equal(one, two)
    assert not torch.allclose(one, Guided(model, TOLD, NULL, 3.0)(LATENTS, TIMES))


def test_optional_conditions_reach_the_model_in_both_branches_and_absent_ones_do_not():
    seen = []

    def telling(x, *_, **inputs):
        seen.append({name: value.shape[0] for name, value in inputs.items() if value is not None})
        return x

    extras = {"t_sr": torch.ones(2), "low_resolution": torch.zeros(2, 3, 2, 2, 2)}
    Guided(telling, conditions(1, **extras), conditions(2, **extras), 2.0)(LATENTS, TIMES)
    Guided(telling, TOLD, NULL, 2.0)(LATENTS, TIMES)
    assert seen == [{"fps": 4, "size": 4, "t_sr": 4, "low_resolution": 4}, {"fps": 4, "size": 4}]


def test_conditions_that_only_one_branch_has_are_refused():
    with pytest.raises(ValueError, match="t_sr"):
        conditions(1, t_sr=torch.ones(2)).joined(NULL)
