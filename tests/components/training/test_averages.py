import torch

from components.training.averages import each_average
from tests.tiny_training import Regression, loop_config, run_tiny


def test_every_decay_can_be_exported_and_is_what_a_run_with_it_alone_exports(tmp_path):
    decays = (0.9, 0.5, 0.0)
    together = Regression()
    result = run_tiny(tmp_path / "together", loop_config(ema=decays, zero_stage=2), together)
    exported = {"ema-0.9": {name: value.clone() for name, value in together.module.state_dict().items()}}
    for name in each_average(together.module, result.other_averages):
        exported[name] = {key: value.clone() for key, value in together.module.state_dict().items()}
    assert list(exported) == ["ema-0.9", "ema-0.5", "ema-0"]
    for decay in decays:
        alone = Regression()
        run_tiny(tmp_path / str(decay), loop_config(ema=decay, zero_stage=2), alone)
        for name, value in alone.module.state_dict().items():
            assert torch.equal(exported[f"ema-{decay:g}"][name], value)


def test_the_first_average_is_back_afterwards_even_where_an_export_fails():
    module = torch.nn.Linear(2, 2)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    others = {0.5: {name: torch.zeros_like(value) for name, value in before.items()}}
    for _ in each_average(module, others):
        assert not module.weight.any()
    turns = each_average(module, others)
    next(turns)
    turns.close()
    assert all(torch.equal(module.state_dict()[name], value) for name, value in before.items())
