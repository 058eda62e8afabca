"""Run by the Python of VBench's own environment: one job in, one result out, both JSON. Imports nothing of ours.

usage: python runner.py JOB RESULT

Job: `dimension`, `videos` (folder), `mode`, `device`, `work` (folder for VBench's own files), `prompts`
(file -> prompt, custom mode). Result: `score`, `videos` (file -> value), `packages` (name -> version).
"""

import json
import sys
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any


def register_torchvision_operators() -> Any:
    """Declare the operators that a CUDA build of torchvision looks for at import, where torch has no CUDA.

    They are never called by VBench. The library must be kept alive.
    """
    import torch

    if torch.version.cuda is not None:
        return None
    library: Any = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return library


def read_onto_the_cpu() -> None:
    """Weights that were saved on a GPU are read onto the CPU: VBench's own loading does not say where to."""
    import torch

    torch.load = partial(torch.load, map_location="cpu")


def evaluate(job: dict[str, Any]) -> dict[str, Any]:
    """Run one dimension through VBench's Python interface."""
    library = register_torchvision_operators()
    import vbench

    if job["device"] == "cpu":
        read_onto_the_cpu()
    info = Path(vbench.__file__).with_name("VBench_full_info.json")
    bench = vbench.VBench(job["device"], str(info), job["work"])
    extra = {"prompt_list": job["prompts"]} if job["mode"] == "custom_input" and job["prompts"] else {}
    bench.evaluate(
        videos_path=job["videos"],
        name="job",
        dimension_list=[job["dimension"]],
        mode=job["mode"],
        local=True,
        **extra,
    )
    del library
    found = json.loads((Path(job["work"]) / "job_eval_results.json").read_text())
    score, videos = found[job["dimension"]]
    return {
        "score": float(score),
        "videos": {Path(one["video_path"]).name: float(one["video_results"]) for one in videos},
        "packages": {item.metadata["Name"]: item.version for item in metadata.distributions()},
    }


def main() -> None:
    """Read the job, write the result under its name only when it is whole."""
    job_file, result_file = Path(sys.argv[1]), Path(sys.argv[2])
    result = evaluate(json.loads(job_file.read_text()))
    partial = result_file.with_suffix(".partial")
    partial.write_text(json.dumps(result, sort_keys=True))
    partial.replace(result_file)


if __name__ == "__main__":
    main()
