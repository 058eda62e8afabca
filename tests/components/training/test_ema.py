import torch

from components.training.ema import Ema


def test_the_average_is_the_weighted_sum_of_all_weights_so_far():
    generator = torch.Generator().manual_seed(0)
    history = [torch.randn(5, generator=generator) for _ in range(31)]
    ema = Ema({"w": history[0]}, decay=0.7)
    for updates, weights in enumerate(history[1:]):
        ema.update({"w": weights}, updates)
    decays = [min(0.7, (1 + n) / (10 + n)) for n in range(30)]
    expected = history[0].double() * torch.tensor(decays, dtype=torch.float64).prod()
    for n, weights in enumerate(history[1:]):
        later = torch.tensor(decays[n + 1 :], dtype=torch.float64).prod()
        expected += (1 - decays[n]) * later * weights.double()
    torch.testing.assert_close(ema.weights["w"].double(), expected, rtol=0, atol=1e-6)


def test_the_average_does_not_share_memory_with_the_weights():
    weights = torch.zeros(2)
    ema = Ema({"w": weights}, decay=0.9)
    weights += 1
    assert ema.weights["w"].tolist() == [0, 0]


def test_without_decay_the_average_is_the_newest_weights():
    ema = Ema({"w": torch.zeros(2)}, decay=0.0)
    ema.update({"w": torch.ones(2)}, 0)
    assert ema.weights["w"].tolist() == [1, 1]
