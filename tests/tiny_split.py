"""A rank of a W.A.L.T stage under ZeRO 3 that notes its passes: `-m tests.tiny_split FOLDER LATENTS`."""

import json
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from components.denoiser import beginning, walt
from components.runtime import launch
from models.transformers.video_transformer import VideoTransformer
from tests.tiny_systems import small_stage, stage_paths

CHANNELS, BATCH, STEPS, SEED = 8, 5, 4, 1


def main() -> None:
    """Write `rank-N.json`: for each pass the samples in it, and those that see an estimate."""
    torch.set_num_threads(1)
    root, latents = Path(sys.argv[1]), Path(sys.argv[2])
    passes: list[tuple[int, int]] = []

    def note(_module: nn.Module, inputs: tuple[Tensor, ...], _more: dict[str, Any]) -> None:
        estimate = inputs[0][:, CHANNELS : 2 * CHANNELS].flatten(1)
        passes.append((len(estimate), int(estimate.any(dim=1).sum())))

    begin = beginning.begin

    def watched(*arguments: Any) -> Any:
        start = begin(*arguments)
        assert isinstance(start.model, VideoTransformer)
        nn.init.normal_(start.model.final.projection.weight, std=0.1)  # an estimate is never zero
        start.model.register_forward_pre_hook(note, with_kwargs=True)
        return start

    walt.begin = watched
    config = small_stage(
        "walt",
        "base",
        model={"preset": "walt-t2v-l-tiny"},
        batches={"buckets": {"16px": {9: (1.0, BATCH)}}, "seed": 1, "small_bucket": "repeat"},
        steps=STEPS,
        seed=SEED,
        zero_stage=3,
    )
    walt.run(config, stage_paths(root, "walt@base", latents))
    (root / f"rank-{launch().rank}.json").write_text(json.dumps(passes))


if __name__ == "__main__":
    main()
