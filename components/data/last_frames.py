"""The end of a video, or a picture, as the first frames of a generated one."""

from pathlib import Path

from components.data.frames import read_frames
from components.data.video import Pixels, UndecodableError, VideoFile
from components.errors import UserError


def last_frames(path: Path, count: int, *, fps: float, height: int, width: int) -> Pixels:
    """The last `count` frames at `fps`, uint8 (count, height, width, 3). Raises `UserError` where there are fewer."""
    if not path.is_file():
        raise UserError(f"{path} does not exist; give an image or a video file")
    try:
        end = _end(path)
        frames = read_frames(
            path, max(0.0, end - count / fps), max(end, 1 / fps), fps=fps, height=height, width=width
        )
    except UndecodableError as error:
        raise UserError(f"{path} cannot be read: {error.detail or error.reason}") from None
    if len(frames) < count:
        raise UserError(f"{path} has {len(frames)} frames at {fps:g} fps, and {count} are to be given")
    return frames[-count:]


def _end(path: Path) -> float:
    """When the last frame ends, in seconds: a container may say when its sound does. Raises `UndecodableError`."""
    with VideoFile(path) as video:
        times = video.packet_times()
        return times[-1] + video.frame_seconds if times else 0.0
