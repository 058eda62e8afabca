"""FP8, compiled blocks, divided sequences and activation checkpointing: what they touch, and what they leave alone."""

import copy

import pytest
import torch
from torch import nn

from components.errors import UserError
from components.training.engine import Engine
from components.training.fp8 import eligible, put_back, swap
from components.training.program import StepResult
from models.transformers.video_transformer import VideoTransformer
from tests.tiny_parts import tiny_transformer
from tests.tiny_training import Regression, loop_config, loop_paths, run_tiny


class Denoising:
    """A tiny transformer learns to give back its input."""

    def __init__(self):
        self.module = tiny_transformer()
        self.losses = []

    def step(self, module, _position, generator):
        config = self.module.config
        latents = torch.randn(2, config.in_channels, 2, 4, 4, generator=generator)
        text = torch.randn(2, 5, config.caption_channels, generator=generator)
        size = torch.full((2, 2), 16.0)
        output = module(
            latents, torch.rand(2, generator=generator), text, torch.ones(2, 5), fps=torch.ones(2), size=size
        )
        loss = (output[:, : latents.shape[1]] - latents).square().mean()
        self.losses.append(loss.item())
        return StepResult(loss)


def test_activation_checkpointing_changes_no_loss_and_no_weight(tmp_path):
    plain, sparing = Denoising(), Denoising()
    run_tiny(tmp_path / "plain", loop_config(steps=4), plain)
    run_tiny(tmp_path / "sparing", loop_config(steps=4, activation_checkpointing=True), sparing)
    assert sparing.losses == plain.losses
    for name, value in plain.module.state_dict().items():
        assert torch.equal(sparing.module.state_dict()[name], value), name


def test_activation_checkpointing_holds_fewer_activations():
    held = {}
    for sparing in (False, True):
        program, sizes = Denoising(), []
        if sparing:
            program.module.enable_gradient_checkpointing()

        def keep(tensor, sizes=sizes):
            sizes.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            program.step(program.module, 0, torch.Generator().manual_seed(0))
        held[sparing] = sum(sizes)
    assert held[True] < 0.5 * held[False]


def test_fp8_is_for_token_layers_with_sides_that_are_multiples_of_16():
    model = tiny_transformer()
    chosen = {id(layer) for _, _, layer in eligible(model)}
    names = {name for name, part in model.named_modules() if id(part) in chosen}
    assert names
    assert all(name.startswith("layers.") for name in names)  # no embedding, no last layer
    assert any(name.endswith("attention.qkv") for name in names)
    assert any(name.endswith("feed_forward.out") for name in names)
    assert not any("modulation" in name for name in names)
    narrow = VideoTransformer(depth=1, heads=1, head_width=24, caption_channels=12)
    assert not any(layer.in_features % 16 or layer.out_features % 16 for _, _, layer in eligible(narrow))


def test_replaced_layers_share_their_parameters_see_multiples_of_16_and_leave_no_trace():
    model = tiny_transformer()
    expected, names = copy.deepcopy(model), list(model.state_dict())
    seen = []

    def replacement(linear):
        made = nn.Linear(linear.in_features, linear.out_features)
        made.register_forward_pre_hook(lambda _, x: None)
        compute = made.forward
        made.forward = lambda x: seen.append(len(x)) or compute(x)
        return made

    swapped = swap(model, replacement)
    assert list(model.state_dict()) == names
    program, reference = Denoising(), Denoising()
    program.module, reference.module = model, expected
    for one in (program, reference):
        one.step(one.module, 0, torch.Generator().manual_seed(0)).loss.backward()
    assert program.losses == pytest.approx(reference.losses, rel=1e-6)
    assert seen
    assert all(rows % 16 == 0 for rows in seen)
    put_back(swapped)
    for (name, value), (_, other) in zip(model.named_parameters(), expected.named_parameters(), strict=True):
        if other.grad is not None:
            torch.testing.assert_close(value.grad, other.grad, rtol=1e-4, atol=1e-6, msg=name)
    assert all(type(layer) is nn.Linear and "forward" not in vars(layer) for _, _, layer in eligible(model))


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what is missing where there is no GPU")
def test_fp8_without_transformer_engine_is_refused_with_the_way_out(tmp_path):
    with pytest.raises(UserError, match=r"Transformer Engine.*set fp8 to false"):
        run_tiny(tmp_path, loop_config(fp8=True), Denoising())


def test_blocks_are_compiled_while_the_engine_lives():
    model = tiny_transformer()
    engine = Engine(model, loop_config(compile="blocks"))
    blocks = list(model.blocks())
    assert all(block._compiled_call_impl is not None for block in blocks)
    engine.close()
    assert all(block._compiled_call_impl is None for block in blocks)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"compile": "blocks"}, "no blocks to compile"),
        ({"sequence_parallel": 2}, "does not divide 1 processes"),
    ],
)
def test_what_a_module_cannot_do_is_refused_before_the_first_step(tmp_path, change, message):
    with pytest.raises(UserError, match=message):
        run_tiny(tmp_path, loop_config(**change), Regression())
    assert not loop_paths(tmp_path).output("curve").exists()
