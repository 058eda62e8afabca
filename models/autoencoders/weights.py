"""Reading the tensors of a file, and putting them into a network that must take exactly these."""

import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

State = dict[str, Tensor]


def read_tensors(path: Path) -> State:
    """The tensors of a .safetensors file, or of a pickled state dict (loaded without running its code).

    Raises `ValueError` where the file is missing, cut short, or holds something else.
    """
    if not path.is_file():
        raise ValueError(f"{path} is missing: give a .safetensors, .bin, .pt or .pth file with weights")
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        try:
            return dict(load_file(path))
        except SafetensorError as error:
            raise ValueError(f"{path} is no whole safetensors file ({error}); fetch it again") from None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise ValueError(f"{path} is no file of tensors only ({error}); save its state dict") from None
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"{path} holds more than tensors by name; save the state dict alone")
    return state


def check_exact(expected: Mapping[str, Tensor], state: Mapping[str, Tensor], what: str) -> None:
    """Raise `ValueError` unless names and shapes are those expected of `what`."""
    missing, unknown = expected.keys() - state.keys(), state.keys() - expected.keys()
    wrong = {name for name in expected.keys() & state.keys() if expected[name].shape != state[name].shape}
    if missing or unknown or wrong:
        name = sorted(missing | unknown | wrong)[0]
        shapes = [tuple(tensors[name].shape) for tensors in (state, expected) if name in tensors]
        raise ValueError(
            f"the weights of the {what} have another geometry: {len(missing)} tensors are missing,"
            f" {len(unknown)} are unknown and {len(wrong)} have another shape, as {name}"
            f" {' instead of '.join(map(str, shapes))}; check the configuration they were saved with"
        )


def load_exact(module: nn.Module, state: Mapping[str, Tensor], what: str) -> None:
    """Give the module these weights, in float32. Raises `ValueError` unless they are exactly its own."""
    check_exact(module.state_dict(), state, what)
    module.load_state_dict({name: value.float() for name, value in state.items()}, assign=True)
