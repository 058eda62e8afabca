"""`reelforge generate`: videos from prompts, with the champion or with the model of this workspace."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from components.errors import UserError

ROOT = Path()
console = Console()


def generate(
    prompts: Annotated[list[str], typer.Argument(help="One or more prompts, each in quotes.")],
    model: Annotated[
        str, typer.Option(help="champion, candidate, workspace (artifacts/pipeline), or a pipeline folder.")
    ] = "workspace",
    output: Annotated[Path, typer.Option(help="Folder for the MP4 files.")] = Path("generated"),
    height: Annotated[int | None, typer.Option(help="Pixels; default: the model's.")] = None,
    width: Annotated[int | None, typer.Option(help="Pixels; default: the model's.")] = None,
    frames: Annotated[int | None, typer.Option(help="Frames; 1 makes an image.")] = None,
    fps: Annotated[int | None, typer.Option(help="Frames per second.")] = None,
    steps: Annotated[int | None, typer.Option(help="Sampling steps.")] = None,
    guidance: Annotated[float | None, typer.Option(help="Guidance scale; 1 is none.")] = None,
    negative: Annotated[str, typer.Option(help="What the videos should not show.")] = "",
    seed: Annotated[int, typer.Option(help="Sample i of a prompt list is made from seed + i.")] = 0,
) -> None:
    """Make videos from text.

    Example: reelforge generate "a red circle moves left over grey stone" --seed 7
    """
    from components.progress import progress
    from models.generation.pipeline import TextToVideoPipeline
    from models.generation.video_file import WATCHABLE_SIDE, to_mp4

    changes = {
        "height": height,
        "width": width,
        "num_frames": frames,
        "fps": fps,
        "steps": steps,
        "guidance_scale": guidance,
        "negative_prompt": negative,
        "seed": seed,
    }
    try:
        pipeline = TextToVideoPipeline.from_pretrained(pipeline_folder(model))
        settings = replace(
            pipeline.defaults, **{key: value for key, value in changes.items() if value is not None}
        )
        pipeline.check(prompts, settings)
    except ValueError as error:
        raise UserError(str(error)) from None
    with progress("sampling", settings.steps) as advance:
        videos = pipeline(
            prompts, batch=len(prompts), progress=lambda _done, _total: advance(), **asdict(settings)
        )
    for index, (prompt, video) in enumerate(zip(prompts, videos, strict=True)):
        path = output / f"{_file_name(prompt)}-{seed + index}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(to_mp4(video, settings.fps, least_side=WATCHABLE_SIDE))
        console.print(path, highlight=False)


def pipeline_folder(model: str) -> Path:
    """Folder of the model that a command names. Raises `UserError` where there is none."""
    if model in {"champion", "candidate"}:
        from components.registry.fetch import fetch_pipeline

        return fetch_pipeline(ROOT.resolve(), model)
    folder = ROOT / "artifacts/pipeline" if model == "workspace" else Path(model)
    if not (folder / "model_index.json").is_file():
        raise UserError(f"{folder} holds no pipeline (no model_index.json); train one with `reelforge run`")
    return folder


def _file_name(prompt: str) -> str:
    words = "".join(letter if letter.isalnum() else " " for letter in prompt).split()
    return "-".join(words)[:80] or "video"
