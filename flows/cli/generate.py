"""`reelforge generate`: videos from prompts, with the champion or with a model of this workspace."""

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from components.errors import UserError
from components.imports import load

if TYPE_CHECKING:
    from models.generation.cascade import Cascade
    from models.generation.layout import Settings
    from models.generation.pipeline import TextToVideoPipeline

    Generator = TextToVideoPipeline | Cascade

ROOT = Path()
PERCENT = 100
console = Console()


def generate(
    prompts: Annotated[list[str], typer.Argument(help="One or more prompts, each in quotes.")],
    model: Annotated[
        str,
        typer.Option(help="champion, candidate, workspace (artifacts/pipeline), or the folder of a model."),
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
    first: Annotated[
        Path | None, typer.Option(help="Image or video whose last frames the videos begin with.")
    ] = None,
    overlap: Annotated[int, typer.Option(help="Frames that are given, of --first and in every round.")] = 1,
    rounds: Annotated[int, typer.Option(help="Rounds by which the videos are then made longer.")] = 0,
    aesthetic: Annotated[
        float | None, typer.Option(help="Said in the prompts of a model that has learned scores, as 6.5.")
    ] = None,
    motion: Annotated[
        float | None, typer.Option(help="Likewise: per cent of the width per second, as 5.")
    ] = None,
    camera: Annotated[str | None, typer.Option(help='Likewise: "pan left", "zoom in", static ...')] = None,
) -> None:
    """Make videos from text, from an image, or as the continuation of a video.

    Example: reelforge generate "a red circle moves left over grey stone" --seed 7
    """
    load("models.generation.folder")
    from models.generation.folder import load_generator
    from models.generation.video_file import WATCHABLE_SIDE, to_mp4

    asked = _asked(prompts, aesthetic=aesthetic, motion=motion, camera=camera)
    changes: dict[str, Any] = {
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
        made_by = load_generator(pipeline_folder(model))
        chosen = {key: value for key, value in changes.items() if value is not None}
        settings = replace(made_by.defaults, **chosen)
        made_by.check(asked, settings)
        videos = _make(made_by, asked, settings, _given(first, overlap, settings), (overlap, rounds))
    except ValueError as error:
        raise UserError(str(error)) from None
    for index, (prompt, video) in enumerate(zip(prompts, videos, strict=True)):
        path = output / f"{_file_name(prompt)}-{seed + index}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(to_mp4(video, settings.fps, least_side=WATCHABLE_SIDE))
        console.print(path, highlight=False, soft_wrap=True, markup=False)


def _asked(prompts: list[str], **scores: float | str | None) -> list[str]:
    """The prompts with scores at their ends. Raises `UserError` for a score that captions cannot say."""
    from pydantic import ValidationError

    from components.data.caption_suffix import asking
    from components.data.config import PromptScores
    from components.params import explain

    try:
        return asking(prompts, PromptScores.model_validate(scores))
    except ValidationError as error:
        raise UserError("\n".join(explain(PromptScores, error))) from None


def _make(
    made_by: "Generator", prompts: list[str], settings: "Settings", given: Any, longer: tuple[int, int]
) -> Any:
    """Videos uint8 (B, T, H, W, 3), after `longer` = (overlap, rounds) rounds of extension."""
    from components.progress import progress
    from models.generation.extension import extend
    from models.generation.pipeline import TextToVideoPipeline

    overlap, rounds = longer
    if rounds and not isinstance(made_by, TextToVideoPipeline):
        raise UserError("a cascade makes no longer videos: extend with its base model, or leave --rounds out")
    with progress("sampling", PERCENT) as advance:
        videos = made_by(
            prompts, given=given, batch=len(prompts), progress=_percent(advance), **asdict(settings)
        )
    if not rounds or not isinstance(made_by, TextToVideoPipeline):
        return videos
    with progress("extension", PERCENT) as advance:
        return extend(
            made_by,
            videos,
            prompts,
            overlap=overlap,
            rounds=rounds,
            progress=_percent(advance),
            **asdict(settings),
        )


def _given(first: Path | None, count: int, settings: "Settings") -> Any:
    if first is None:
        return None
    from components.data.last_frames import last_frames

    size = {"height": settings.height, "width": settings.width}
    return last_frames(first, count, fps=settings.fps, **size)[None]


def _percent(advance: Callable[..., None]) -> Callable[[int, int], None]:
    """Steps done of all, as whole percents."""
    shown = 0

    def report(done: int, total: int) -> None:
        nonlocal shown
        now = PERCENT * done // total
        advance(now - shown)
        shown = now

    return report


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
