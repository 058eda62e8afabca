"""Run by the Python of VBench's own environment: which videos are still. Imports nothing of ours.

usage: python still_runner.py JOB RESULT

Job: `prompts` (lists of video files, in the order in which they are looked at), `model` (RAFT's weights), `device`,
`enough` (still videos of a prompt, after which its others are not looked at), `answers` (a file of JSON lines). Each
answer is written as soon as it is there; what the file holds is not asked again.
"""

import json
import sys
from pathlib import Path
from typing import Any


def still_filter(model: str, device: str) -> Any:
    """VBench's own filter, whose weights are read onto the device that is asked for, and nowhere else."""
    import torch
    from vbench.cli import static_filter

    static_filter.DEVICE = device

    class Filter(static_filter.StaticFilter):  # type: ignore[misc]
        def load_model(self) -> None:
            state = torch.load(self.args.model, map_location=self.device, weights_only=True)
            network = static_filter.RAFT(self.args)
            network.load_state_dict({name.removeprefix("module."): value for name, value in state.items()})
            self.model = network.to(self.device).eval()

    class Settings(dict[str, Any]):
        """RAFT asks for its settings by attribute and by `in`."""

        __getattr__ = dict.__getitem__

    settings = Settings(model=model, small=False, mixed_precision=False, alternate_corr=False, dropout=0)
    return Filter(settings, device)


def main() -> None:
    """Look at the videos, prompt by prompt."""
    job = json.loads(Path(sys.argv[1]).read_text())
    answers = Path(job["answers"])
    known: dict[str, bool] = {}
    if answers.is_file():
        for line in answers.read_text().splitlines():
            if line.endswith("}"):  # the last one may have been cut off
                known.update(json.loads(line))
    looking = None
    with answers.open("a") as stream:
        for files in job["prompts"]:
            still = 0
            for file in files:
                if still >= job["enough"]:
                    break
                if file not in known:
                    looking = looking or still_filter(job["model"], job["device"])
                    known[file] = bool(looking.infer(file))
                    stream.write("\n" + json.dumps({file: known[file]}))
                    stream.flush()
                still += known[file]
    Path(sys.argv[2]).write_text(json.dumps(known))


if __name__ == "__main__":
    main()
