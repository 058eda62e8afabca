"""Numbers and classes that are added to the embedding of time."""

import pytest
import torch
from torch import nn

from models.positions import sinusoid
from models.transformers.conditions import CONDITIONS, Given, build_conditions
from models.transformers.initialise import initialise

WIDTH = 16
GIVEN = Given(
    size=torch.tensor([[240.0, 426.0], [256.0, 256.0]]),
    frames=5,
    t_sr=torch.tensor([30.0, 60.0]),
    label=torch.tensor([0, 2]),
)
OPTIONS = {name: {"count": 3} if name == "class" else {} for name in CONDITIONS}


@pytest.mark.parametrize("name", [name for name in CONDITIONS if name != "class"])
def test_a_number_starts_without_effect_and_has_one_once_it_is_learned(name: str):
    condition = build_conditions({name: OPTIONS[name]}, WIDTH)[name]
    initialise(condition)
    assert not condition(GIVEN).any()
    for parameter in condition.parameters():
        nn.init.normal_(parameter)
    assert condition(GIVEN).any()
    assert condition(GIVEN).shape[1:] == (1, WIDTH)


@pytest.mark.parametrize(
    ("name", "numbers"),
    [
        ("resolution", [(240 * 426) ** 0.5, 256.0]),
        ("aspect", [240 / 426, 1.0]),
        ("frames", [5.0]),
        ("t_sr", [30.0, 60.0]),
    ],
)
def test_what_is_embedded_is_the_number_of_that_name(name: str, numbers: list[float]):
    condition = CONDITIONS[name](WIDTH)
    waves = sinusoid(torch.tensor(numbers), 256)
    hidden = nn.functional.silu(waves @ condition.hidden.weight.T + condition.hidden.bias)
    expected = hidden @ condition.out.weight.T + condition.out.bias
    torch.testing.assert_close(condition(GIVEN)[:, 0], expected)


def test_height_and_width_take_half_of_the_channels_each():
    condition = CONDITIONS["size"](WIDTH)
    taller = GIVEN._replace(size=torch.tensor([[480.0, 426.0], [512.0, 256.0]]))
    changed = (condition(taller) - condition(GIVEN)).abs().amax(dim=(0, 1)) > 0
    assert changed[: WIDTH // 2].all()
    assert not changed[WIDTH // 2 :].any()


def test_a_class_per_sample_or_per_image_of_a_stack_is_a_row_of_the_table():
    condition = CONDITIONS["class"](WIDTH, count=3)
    assert torch.equal(condition(GIVEN)[1, 0], condition.table.weight[2])
    each = condition(GIVEN._replace(label=torch.tensor([[0, 1, 3], [2, 2, 2]])))
    assert torch.equal(each[0], condition.table.weight[[0, 1, 3]])


def test_an_unknown_option_is_an_error():
    with pytest.raises(ValueError, match=r"condition of kind 'class'.*count"):
        build_conditions({"class": {}}, WIDTH)
