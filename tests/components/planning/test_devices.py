"""What is asked for as `--gpus`, and how long a step takes there."""

import random

import pytest

from components.errors import UserError
from components.planning.clock import Work, mean_seconds, slowest_seconds
from components.planning.devices import DEVICES, parse_cluster


def test_a_number_and_a_kind_are_read() -> None:
    cluster = parse_cluster("96xH100", mfu=0.4, price=3.0)
    assert (cluster.count, cluster.name, cluster.price) == (96, "96xH100", 3.0)
    assert cluster.flops() == pytest.approx(0.4 * 989.4e12)
    assert cluster.flops(bf16=False) < cluster.flops() / 10
    assert parse_cluster("8").name == "8xH100"
    assert parse_cluster(" 16 x a100-40gb ").device == DEVICES["A100-40GB"]


@pytest.mark.parametrize("text", ["", "H100", "0xH100", "-1xH100", "8x", "8xH1000", "8xH100x2", "eight"])
def test_anything_else_is_refused_with_what_would_do(text: str) -> None:
    with pytest.raises(UserError, match=r"96xH100|known: B200"):
        parse_cluster(text)


@pytest.mark.parametrize(("mfu", "price"), [(0.0, 2.0), (1.1, 2.0), (0.3, -1.0)])
def test_shares_and_prices_that_cannot_be_are_refused(mfu: float, price: float) -> None:
    with pytest.raises(UserError, match=r"--mfu|--price"):
        parse_cluster("8xH100", mfu=mfu, price=price)


def test_the_slowest_of_many_gpus_is_what_drawing_their_batches_gives() -> None:
    works = [Work(0.6, 1.0), Work(0.3, 2.0), Work(0.1, 5.0)]
    draw = random.Random(0)
    seconds, shares = [work.seconds for work in works], [work.share for work in works]
    drawn = [max(draw.choices(seconds, shares, k=8)) for _ in range(20_000)]
    assert slowest_seconds(works, 8) == pytest.approx(sum(drawn) / len(drawn), rel=0.02)
    assert slowest_seconds(works, 1) == pytest.approx(mean_seconds(works)) == pytest.approx(1.7)
    assert slowest_seconds(works, 10_000) == pytest.approx(5.0)
