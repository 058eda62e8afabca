from dataclasses import replace

import numpy as np
import pytest

from components.errors import UserError
from components.registry.margins import noise_of
from tests.components.registry.contestants import contestant, with_metric


def run(seed, *, model="model", loss=0.3):
    side = with_metric(contestant(model, seed=seed), "validation_loss", value=loss)
    return replace(side.record, protocol={"generation": {"seed": seed}})


def test_the_margin_is_twice_the_deviation_between_the_runs():
    losses = [0.30, 0.34, 0.26, 0.31]
    noise = {one.metric: one for one in noise_of([run(seed, loss=loss) for seed, loss in enumerate(losses)])}
    found = noise["validation_loss"]
    assert found.margin == pytest.approx(2 * np.std(losses, ddof=1))
    assert (found.runs, found.mean) == (4, pytest.approx(np.mean(losses)))


def test_a_metric_without_a_value_in_a_run_has_no_noise():
    assert "validation_loss" not in {one.metric for one in noise_of([run(1), run(2, loss=None)])}


@pytest.mark.parametrize(
    ("records", "words"),
    [
        ([run(1)], "at least two"),
        ([run(1), run(2, model="other")], "of one model"),
        ([run(1), run(1)], "differ in their seed"),
    ],
)
def test_runs_that_are_no_a_a_runs_are_refused(records, words):
    with pytest.raises(UserError, match=words):
        noise_of(records)
