"""`reelforge generate`: videos from prompts, with the champion or with the model of this workspace."""

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
    upscale: Annotated[int, typer.Option(help="Enlarge the file's frames by this whole factor.")] = 4,
) -> None:
    """Make videos from text.

    Example: reelforge generate "a red circle moves left over grey stone" --seed 7
    """
    from components.evaluation.videos import write_video
    from models.generation.pipeline import TextToVideoPipeline

    from components.progress import progress

    pipeline = TextToVideoPipeline.from_pretrained(_folder(model))
    defaults = pipeline.defaults
    num_frames, rate = frames or defaults.num_frames, fps or defaults.fps
    total = steps or defaults.steps
    with progress("sampling", total) as advance:
        videos = pipeline(
            prompts,
            height=height or defaults.height,
            width=width or defaults.width,
            num_frames=num_frames,
            fps=rate,
            steps=total,
            guidance_scale=defaults.guidance_scale if guidance is None else guidance,
            negative_prompt=negative,
            seed=seed,
            progress=advance,
        )
    for index, (prompt, video) in enumerate(zip(prompts, videos, strict=True)):
        path = output / f"{_file_name(prompt)}-{seed + index}.mp4"
        write_video(path, video, fps=rate, upscale=upscale)
        console.print(path, highlight=False)


def _folder(model: str) -> Path:
    if model in {"champion", "candidate"}:
        from components.registry.register import fetch_pipeline

        return fetch_pipeline(ROOT.resolve(), model)
    folder = ROOT / "artifacts/pipeline" if model == "workspace" else Path(model)
    if not (folder / "model_index.json").is_file():
        raise UserError(f"{folder} holds no pipeline (no model_index.json); train one with `reelforge run`")
    return folder


def _file_name(prompt: str) -> str:
    words = "".join(letter if letter.isalnum() else " " for letter in prompt).split()
    return "-".join(words)[:80] or "video"
