"""One pipeline of each objective, with random weights."""

import pytest
import torch

from models.diffusion import InputChannels, VPrediction
from tests.tiny_parts import tiny_text, tiny_transformer
from tests.tiny_pipeline import tiny_pipeline


@pytest.fixture(scope="session")
def text_folder(tmp_path_factory):
    return tiny_text(tmp_path_factory.mktemp("text"))


@pytest.fixture(scope="session")
def pipeline(text_folder):
    return tiny_pipeline(text_folder)


@pytest.fixture(scope="session")
def v_pipeline(text_folder):
    """With self-conditioning and frame prediction."""
    objective = VPrediction(channels=InputChannels(estimate=True, frames=True), self_conditioning=0.9)
    config = {**tiny_transformer().config, "in_channels": objective.channels.count(4), "out_channels": 4}
    torch.manual_seed(0)
    transformer = type(tiny_transformer()).from_config(config)
    for parameter in transformer.parameters():
        if parameter.requires_grad and parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.15)
    return tiny_pipeline(text_folder, transformer=transformer, times=objective)
