"""What the record says of a mean: that its 95 % interval holds as often as it says."""

import numpy as np
import pytest

from components.evaluation.scores import mean_metric


@pytest.mark.parametrize("items", [2, 4, 64])
def test_the_interval_of_a_mean_holds_in_95_percent_of_trials_however_few_items_there_are(items):
    rng = np.random.default_rng(items)
    trials = 4000
    held = 0
    for _ in range(trials):
        low, high = mean_metric(dict(enumerate(rng.normal(size=items))), "mean@test").interval
        held += low <= 0.0 <= high
    assert held / trials == pytest.approx(0.95, abs=0.012)  # three and a half standard errors


def test_one_item_has_no_interval():
    assert mean_metric({"only": 3.0}, "mean@test").interval is None
