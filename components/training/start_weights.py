"""A start from weights alone: optimizer, averages, data order and step count begin anew.

Unlike resuming, this changes what a run results in, so it is a parameter of the stage and part of its fingerprint.
"""

import logging
from pathlib import Path

from torch import Tensor, nn

from components.errors import UserError
from components.training.checkpoint_files import STATE, Damaged, StoredTensors
from components.training.ema import kind_of
from models.checkpoint import read_tensors

log = logging.getLogger(__name__)
SHOWN = 6  # names in a message


def put_start_weights(module: nn.Module, source: Path) -> None:
    """Copy the weights of a checkpoint (its first average), of a diffusers folder or of a file into the trained part.

    Raises `UserError` unless `source` has every trained parameter in its shape, and nothing that the module has not.
    """
    try:
        found = _averages(source) if (source / STATE).is_file() else read_tensors(source)
    except (ValueError, OSError, Damaged) as error:
        raise UserError(f"start_weights: {error}") from None
    trained = {name: value for name, value in module.named_parameters() if value.requires_grad}
    known = {*module.state_dict(), *trained}
    problems = [f"{name} is missing" for name in sorted(trained.keys() - found.keys())]
    problems += [f"{name} is unknown here" for name in sorted(found.keys() - known)]
    problems += [
        f"{name} is {tuple(found[name].shape)} and must be {tuple(value.shape)}"
        for name, value in trained.items()
        if name in found and found[name].shape != value.shape
    ]
    if problems:
        more = f", and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
        raise UserError(
            f"start_weights: {source} does not fit this stage's model: {', '.join(problems[:SHOWN])}{more}. Name a"
            " checkpoint or export of the same model"
        )
    for name, value in trained.items():
        value.data.copy_(found[name])
    log.info("starting from the weights of %s, at step 0 with a new optimizer", source)


def _averages(folder: Path) -> dict[str, Tensor]:
    stored = StoredTensors(folder)
    kind = kind_of(stored.state["ema"][0])
    return {name: stored.whole(kind, name) for name in stored.shapes}
