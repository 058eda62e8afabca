"""Peak memory while a sharded checkpoint is loaded, against its limit and against plain PyTorch, in one run.

    python benchmarks/checkpoint_memory.py [--gigabytes 1.5] [--shard-megabytes 200]

Makes the checkpoint of an STDiT with random weights, then loads it in one child process per way. Each child measures
the most resident memory (Linux, VmHWM) from before the model is built until every weight has been read once, less what
it held before. The number is what was held beyond the model itself, as a share of the largest shard; the limit is 1.3.
The peer builds the model and gives it a state dict that `torch.load` read from one file.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

REPOSITORY = Path(__file__).parents[1]
sys.path.insert(0, str(REPOSITORY))

from models.checkpoint import load_weights  # noqa: E402
from models.transformers.video_transformer import VideoTransformer  # noqa: E402

LIMIT = 1.3  # of the largest shard, beyond the model
PAIR_BYTES = 170e6  # of a spatial and a temporal block of STDiT3-XL/2 in float32
STATE = "state.pt"


def memory(field: str) -> int:
    """Bytes of a field of this process's status: VmRSS now, VmHWM at most."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"no {field} in /proc/self/status: this benchmark needs Linux")


def make(folder: Path, gigabytes: float, shard_megabytes: int) -> None:
    """The checkpoint in shards, and once more in one file."""
    torch.manual_seed(0)
    model = VideoTransformer(depth=max(1, round(gigabytes * 1e9 / PAIR_BYTES)), heads=16, head_width=72)
    model.save_pretrained(folder, max_shard_size=f"{shard_megabytes}MB")
    torch.save(model.state_dict(), folder / STATE)


def from_pretrained(folder: Path) -> VideoTransformer:
    return VideoTransformer.from_pretrained(folder)


def from_pretrained_bfloat16(folder: Path) -> VideoTransformer:
    return VideoTransformer.from_pretrained(folder, torch_dtype=torch.bfloat16)


def onto_meta(folder: Path) -> VideoTransformer:
    with torch.device("meta"):
        model = VideoTransformer.from_config(VideoTransformer.load_config(folder))
    load_weights(model, folder)
    return model


def plain_pytorch(folder: Path) -> VideoTransformer:
    model = VideoTransformer.from_config(VideoTransformer.load_config(folder))
    model.load_state_dict(torch.load(folder / STATE, weights_only=True))
    return model


WAYS: dict[str, Callable[[Path], VideoTransformer]] = {
    "from_pretrained": from_pretrained,
    "from_pretrained, bfloat16": from_pretrained_bfloat16,
    "load_weights onto a meta model": onto_meta,
    "peer: torch.load, load_state_dict": plain_pytorch,
}


def measure(way: str, folder: Path) -> None:
    """Run in a child: print bytes of the model and the peak above the start, and the seconds, as JSON."""
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak of the imports
    before, started = memory("VmRSS"), time.monotonic()
    model = WAYS[way](folder)
    loaded = time.monotonic() - started
    with torch.no_grad():
        for tensor in model.state_dict().values():
            tensor.sum()  # a weight that is mapped from a file is in memory once it was read
    size = sum(tensor.nbytes for tensor in model.state_dict().values())
    print(json.dumps({"model": size, "peak": memory("VmHWM") - before, "seconds": loaded}))


def child(*arguments: str) -> str:
    """What this script prints in a process of its own."""
    command = [sys.executable, __file__, *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def report(folder: Path) -> None:
    shards = [path.stat().st_size for path in folder.glob("*.safetensors")]
    largest = max(shards)
    print(f"{len(shards)} shards, {sum(shards) / 1e9:.2f} GB, the largest {largest / 1e6:.0f} MB")
    print(f"{'':<36}{'model':>9}{'peak':>10}{'load':>9}  (peak - model) / largest shard")
    for way in WAYS:
        found = json.loads(child("--way", way, "--folder", str(folder)).splitlines()[-1])
        beyond = (found["peak"] - found["model"]) / largest
        print(
            f"{way:<36}{found['model'] / 1e6:>6.0f} MB{found['peak'] / 1e6:>7.0f} MB{found['seconds']:>7.2f} s"
            f"{beyond:>8.2f}   limit {LIMIT:.2f}   ratio {beyond / LIMIT:.2f}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=1.5)
    parser.add_argument("--shard-megabytes", type=int, default=200)
    parser.add_argument("--way", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way == "make":
        make(options.folder, options.gigabytes, options.shard_megabytes)
    elif options.way:
        measure(options.way, options.folder)
    else:
        sizes = ["--gigabytes", str(options.gigabytes), "--shard-megabytes", str(options.shard_megabytes)]
        with tempfile.TemporaryDirectory(prefix="reelforge-") as folder:
            child("--way", "make", "--folder", folder, *sizes)
            report(Path(folder))


if __name__ == "__main__":
    main()
