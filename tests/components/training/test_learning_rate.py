import math

import pytest

from components.training.config import OptimizerConfig
from components.training.schedule import learning_rate


def test_warm_up_rises_in_equal_parts_and_reaches_the_rate_after_its_last_step():
    config = OptimizerConfig(lr=1.0, warmup_steps=4)
    assert [learning_rate(config, step, 100) for step in range(6)] == pytest.approx(
        [0.2, 0.4, 0.6, 0.8, 1, 1]
    )


def test_a_constant_rate_stays():
    config = OptimizerConfig(lr=3e-4)
    assert {learning_rate(config, step, 10) for step in range(10)} == {3e-4}


def test_cosine_is_half_way_down_in_the_middle_and_would_be_zero_at_the_end():
    config = OptimizerConfig(lr=2.0, schedule="cosine", warmup_steps=10)
    assert learning_rate(config, 10, 110) == pytest.approx(2.0)
    assert learning_rate(config, 60, 110) == pytest.approx(1.0)
    assert learning_rate(config, 35, 110) == pytest.approx(1 + math.cos(math.pi / 4))
    assert 0 < learning_rate(config, 109, 110) < 1e-3
