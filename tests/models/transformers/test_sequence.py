"""A clip divided among two processes gives the output, the loss and the gradients of the clip on one."""

import sys
from pathlib import Path

import pytest
import torch

from models.transformers.sequence import DividedSequence
from models.transformers.video_transformer import VideoTransformer
from tests import two_ranks

PATTERNS = {
    "frames and tubes": {"spatial": {"size": [1, None, None]}, "temporal": {"size": [None, 1, 1]}},
    "shifted windows": {"brick": {"size": [2, 2, 2]}, "moved": {"size": [2, 2, 2], "shift": [1, 1, 1]}},
    "causal": {"all": {"size": [None, None, None], "causal": True}},
}
GRIDS = {"rows": (3, 8, 6), "columns": (3, 6, 8)}


def make(name):
    torch.manual_seed(3)
    model = VideoTransformer(
        in_channels=4,
        out_channels=4,
        depth=2,
        heads=4,
        head_width=8,
        caption_channels=12,
        max_text_tokens=5,
        pattern=PATTERNS[name],
    )
    for parameter in model.parameters():  # zero-initialised parts too
        torch.nn.init.normal_(parameter, std=0.1)
    return model


def run(model, grid):
    """Output, and gradients of a loss on it."""
    generator = torch.Generator().manual_seed(5)

    def draw(*shape):
        return torch.randn(*shape, generator=generator)

    latents, text = draw(2, 4, *grid), draw(2, 5, 12)
    output = model(
        latents,
        torch.tensor([100.0, 800.0]),
        text,
        torch.ones(2, 5),
        fps=torch.full((2,), 8.0),
        size=torch.full((2, 2), 32.0),
        frame_mask=torch.tensor([[True, False, True]] * 2),
    )
    (output - latents).square().mean().backward()
    return output.detach(), {
        name: value.grad.clone() for name, value in model.named_parameters() if value.grad is not None
    }


def main():
    """What each process does: all cases, with gradients averaged as a training engine does it."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo")
    found = {}
    for name in PATTERNS:
        for side, grid in GRIDS.items():
            model = make(name)
            model.divide_sequence(DividedSequence())
            model.enable_gradient_checkpointing()
            output, gradients = run(model, grid)
            for value in gradients.values():
                torch.distributed.all_reduce(value)
            found[name, side] = output, {key: value / 2 for key, value in gradients.items()}
    if torch.distributed.get_rank() == 0:
        torch.save(found, Path(sys.argv[1]) / "found.pt")
    torch.distributed.barrier()


@pytest.fixture(scope="module")
def divided(tmp_path_factory):
    folder = tmp_path_factory.mktemp("divided")
    two_ranks.run("tests.models.transformers.test_sequence", folder)
    return torch.load(folder / "found.pt")


@pytest.mark.parametrize("side", GRIDS)
@pytest.mark.parametrize("name", PATTERNS)
def test_two_processes_give_what_one_gives(divided, name, side):
    expected_output, expected = run(make(name), GRIDS[side])
    output, gradients = divided[name, side]
    torch.testing.assert_close(output, expected_output, rtol=0, atol=1e-5)
    assert gradients.keys() == expected.keys()
    for key, value in expected.items():
        torch.testing.assert_close(gradients[key], value, rtol=1e-4, atol=1e-5, msg=key)


def divided_by(size):
    sequence = DividedSequence.__new__(DividedSequence)
    sequence.size, sequence.rank = size, 0
    return sequence


def test_a_grid_that_cannot_be_divided_is_refused_with_its_size():
    with pytest.raises(ValueError, match="5 x 7 tokens cannot be divided among 2"):
        divided_by(2).divide(torch.zeros(1, 3, 5, 7, 8))


def test_heads_that_cannot_be_divided_are_refused():
    with pytest.raises(ValueError, match="4 heads cannot be divided among 3"):
        make("causal").divide_sequence(divided_by(3))


def test_a_model_that_needs_all_tokens_elsewhere_is_refused():
    model = VideoTransformer(depth=(1, 1, 1), heads=4, head_width=8, caption_channels=12)
    with pytest.raises(ValueError, match="hourglass"):
        model.divide_sequence(divided_by(2))
