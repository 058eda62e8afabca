"""A rank of a W.A.L.T stage under ZeRO 3 that looks at held-out clips: `-m tests.tiny_looks FOLDER LATENTS`."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from components.denoiser import walt
from components.denoiser.held_out import HeldOutLoss
from components.runtime import launch
from components.training.program import Found
from tests.tiny_systems import small_stage, stage_paths

BUCKETS = {"16px": {1: (1.0, 5), 9: (1.0, 2)}}
VALIDATION = {"steps": 1, "samples": 3, "times": 2}


def main() -> None:
    """Write `looks-N.json`: what each look of this process found."""
    torch.set_num_threads(1)
    root, latents = Path(sys.argv[1]), Path(sys.argv[2])
    looks: list[Mapping[str, float]] = []
    look = HeldOutLoss.look

    def noted(self: HeldOutLoss, module: nn.Module, step: int) -> Found:
        found = look(self, module, step)
        looks.append(found.metrics)
        return found

    HeldOutLoss.look = noted  # type: ignore[method-assign]
    config = small_stage(
        "walt",
        "base",
        model={"preset": "walt-t2v-l-tiny"},
        batches={"buckets": BUCKETS, "seed": 1, "small_bucket": "repeat"},
        steps=2,
        zero_stage=3,
        validation=VALIDATION,
    )
    walt.run(config, stage_paths(root, "walt@base", latents))
    (root / f"looks-{launch().rank}.json").write_text(json.dumps(looks))


if __name__ == "__main__":
    main()
