"""Shots as PySceneDetect's adaptive detector finds them, with the settings that package has by itself.

Open-Sora cut its training data with it, so a team that compares with published work can choose it; the package is
optional.
"""

from components.data.reasons import SourceReason
from components.data.video import UndecodableError
from components.storage import ObjectError, Place, fetch


def shot_starts(path: Place) -> list[float]:
    """Seconds from the first frame at which a shot begins, the first one at 0. Raises `UndecodableError`."""
    from scenedetect import AdaptiveDetector, VideoOpenFailure, detect

    try:
        scenes = detect(str(fetch(path)), AdaptiveDetector(), start_in_scene=True)
    except ObjectError as error:
        raise UndecodableError(SourceReason.UNREACHABLE, str(error)) from None
    except (VideoOpenFailure, OSError) as error:
        raise UndecodableError(SourceReason.UNREADABLE, f"{path.name}: {error}") from None
    return [float(start.seconds) for start, _ in scenes]
