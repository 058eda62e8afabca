import torch

from components.training.ema import Ema


def test_the_average_is_the_weighted_sum_of_all_weights_so_far():
    generator = torch.Generator().manual_seed(0)
    history = [torch.randn(5, generator=generator) for _ in range(31)]
    ema = Ema({"w": history[0]}, [0.7])
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
    ema = Ema({"w": weights}, [0.9])
    weights += 1
    assert ema.weights["w"].tolist() == [0, 0]


def test_without_decay_the_average_is_the_newest_weights():
    ema = Ema({"w": torch.zeros(2)}, [0.0])
    ema.update({"w": torch.ones(2)}, 0)
    assert ema.weights["w"].tolist() == [1, 1]


def test_each_decay_has_its_own_average_and_the_first_is_the_exported_one():
    together = Ema({"w": torch.zeros(2)}, [0.9, 0.5])
    alone = {decay: Ema({"w": torch.zeros(2)}, [decay]) for decay in (0.9, 0.5)}
    for updates in range(40):
        weights = {"w": torch.full((2,), float(updates))}
        for ema in (together, *alone.values()):
            ema.update(weights, updates)
    for decay, ema in alone.items():
        assert torch.equal(together.averages[decay]["w"], ema.weights["w"])
    assert together.weights is together.averages[0.9]
    assert not torch.equal(together.averages[0.9]["w"], together.averages[0.5]["w"])
