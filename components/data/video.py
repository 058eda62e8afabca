"""A video file opened for reading: times in seconds from its first frame, frames in order, seeking that is exact.

Every stage that looks at pixels goes through here, so that all of them agree on what "second 2.5 of this file" is,
whatever the container's clock starts at, and on which frame is shown then.
"""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import av
import numpy as np
from numpy.typing import NDArray

from components.data.pool import RejectedError
from components.data.reasons import SourceReason
from components.storage import ObjectFile, ObjectPath, Place

TIME_TOLERANCE = 5e-4  # seconds; container clocks round, and no frame is shorter than this
SEEK_SECONDS = 1.0  # decoding on is cheaper than a seek over a gap shorter than this
SEEK_MARGINS = (0.0, 1.0, 8.0, float("inf"))  # seconds to step back when a seek lands behind its target
REWIND_SECONDS = 10.0  # before the first frame: transport streams asked for their start give a later keyframe
PAUSE_SECONDS, PAUSE_FRAMES = 2.0, 12  # a clock that leaps by more than both: the recording was interrupted
Pixels = NDArray[np.uint8]


class UndecodableError(RejectedError):
    """The file, or the asked part of it, cannot be decoded; `reason` is a `SourceReason`."""


@dataclass(frozen=True)
class TimedFrame:
    """A decoded frame and its time in seconds from the first frame of the file."""

    seconds: float
    frame: av.VideoFrame


class VideoFile:
    """The best video stream of a file, to be used in a `with`. Raises `UndecodableError` with its reason."""

    def __init__(self, path: Place, *, threads: int = 1) -> None:
        self.path = path
        self._file = _opened(path)
        try:
            self.container = av.open(self._file, metadata_errors="ignore")
        except (av.error.FFmpegError, OSError) as error:
            self._file.close()
            raise self._undecodable(error) from None
        stream = self.container.streams.best("video")
        if stream is None:
            self._close()
            raise UndecodableError(SourceReason.NO_VIDEO, f"{path.name} has no video stream")
        self.stream: av.VideoStream = stream
        stream.codec_context.thread_count = threads
        stream.codec_context.thread_type = "SLICE"
        self.time_base = float(stream.time_base)
        self.start = stream.start_time or 0  # in units of the time base
        rate = stream.average_rate or stream.guessed_rate
        self.frame_seconds = 1 / float(rate) if rate else 1 / 25

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def _close(self) -> None:
        self.container.close()
        self._file.close()

    @property
    def declared_seconds(self) -> float:
        """Length of the video stream as the container says, which may be wrong; 0 where it does not say."""
        if self.stream.duration:
            return float(self.stream.duration * self.time_base)
        alone = len(self.container.streams) == 1  # else the length may be that of the sound
        if not alone or not self.container.duration:
            return 0.0
        # Matroska counts its length from 0, wherever its first frame is
        lead = self.start * self.time_base if "matroska" in self.container.format.name else 0.0
        return float(self.container.duration / av.time_base - max(0.0, lead))

    def packet_times(self) -> list[float]:
        """Sorted times of all frames from the packets, without decoding. Reads the whole file."""
        self._seek(0.0)
        times = self._packet_times()
        if times and times[0] > TIME_TOLERANCE:
            self._seek(-REWIND_SECONDS)
            times = self._packet_times()
        return times

    def _packet_times(self) -> list[float]:
        times: list[float] = []
        try:
            for packet in self.container.demux(self.stream):
                if packet.size and not packet.is_discard:
                    known = packet.pts is not None
                    times.append(
                        (packet.pts - self.start) * self.time_base
                        if known
                        else len(times) * self.frame_seconds
                    )
        except (av.error.FFmpegError, OSError) as error:
            raise self._undecodable(error) from None
        self._check_was_read()
        return sorted(times)

    def frames(self) -> Iterator[TimedFrame]:
        """All frames in the order they are shown."""
        return self._frames_around(0.0)

    def nearest(self, times: Sequence[float], *, start: float, end: float) -> Iterator[TimedFrame]:
        """For each of the sorted `times` (seconds) the frame nearest to it among those in [start, end).

        Decodes forward, and seeks only over a gap that holds a keyframe. Raises `UndecodableError`.
        """
        last = max(start, end - 2 * TIME_TOLERANCE)  # behind it lies no frame that may be shown
        decoded: Iterator[TimedFrame] | None = None
        before: TimedFrame | None = None
        after: TimedFrame | None = None
        for seconds in times:
            if decoded is None or (after is not None and self._has_keyframe(after.seconds, seconds)):
                decoded = self._frames_around(min(max(seconds, start), last))
                before, after = None, next(decoded, None)
            while after is not None and after.seconds <= min(max(seconds, start), last) + TIME_TOLERANCE:
                before, after = after, next(decoded, None)
            inside = [one for one in (before, after) if one is not None and _within(one.seconds, start, end)]
            if not inside:
                span = f"between {start:.3f} s and {end:.3f} s"
                raise UndecodableError(SourceReason.UNREADABLE, f"{self.path.name}: no frame {span}")
            yield min(inside, key=lambda one: abs(one.seconds - seconds))

    def _frames_around(self, seconds: float) -> Iterator[TimedFrame]:
        """Frames in order, beginning at or before `seconds` (at the first frame if none is before)."""
        for margin in SEEK_MARGINS:
            # containers seek by decoding time, so with reordered frames they may land behind the target
            self._seek(max(-REWIND_SECONDS, seconds - margin) if margin else seconds)
            decoded = self._decode()
            first = next(decoded, None)
            if first is not None and first.seconds <= seconds + TIME_TOLERANCE:
                break
        if first is not None:
            yield first
        yield from decoded

    def _seek(self, seconds: float) -> None:
        try:
            self.container.seek(self.start + int(seconds / self.time_base), stream=self.stream)
        except (av.error.FFmpegError, OSError) as error:
            raise self._undecodable(error) from None

    def _decode(self) -> Iterator[TimedFrame]:
        frames = self.container.decode(self.stream)
        previous = -self.frame_seconds
        while True:
            try:
                frame = next(frames, None)
            except (av.error.FFmpegError, OSError) as error:
                raise self._undecodable(error) from None
            if frame is None:
                self._check_was_read()
                return
            # a few containers carry no times: then the frame rate is the clock
            known = frame.pts is not None
            seconds = (frame.pts - self.start) * self.time_base if known else previous + self.frame_seconds
            previous = seconds
            yield TimedFrame(seconds, frame)

    def _has_keyframe(self, position: float, seconds: float) -> bool:
        """True when seeking to `seconds` saves decoding, coming from `position`."""
        entries = self.stream.index_entries
        if not len(entries):
            return seconds - position > SEEK_SECONDS
        found = entries.search_timestamp(self.start + int(seconds / self.time_base), backward=True)
        keyframe = (entries[found].timestamp - self.start) * self.time_base if found >= 0 else position
        return bool(keyframe > position)

    def _check_was_read(self) -> None:
        """Decoders take a read that failed for the end of the file. Raises `UndecodableError`."""
        if self._file.error is not None:
            raise self._undecodable(self._file.error)

    def _undecodable(self, error: OSError) -> UndecodableError:
        if self._file.error is not None:
            return UndecodableError(SourceReason.UNREACHABLE, str(self._file.error))
        return UndecodableError(SourceReason.UNREADABLE, f"{self.path.name}: {error.strerror}")

    def shown_size(self, frame: av.VideoFrame) -> tuple[int, int]:
        """(height, width) as a player shows the frame: square pixels, and turned as the file says."""
        stretch = self.stream.sample_aspect_ratio
        width = round(frame.width * float(stretch)) if stretch else frame.width
        turned = round(frame.rotation / 90) % 2
        return (width, frame.height) if turned else (frame.height, width)


class _LocalFile(io.FileIO):
    """A file of this machine that remembers a read which failed: decoders say that the data are bad, or at an end."""

    error: OSError | None = None

    def read(self, size: int | None = -1, /) -> bytes:
        try:
            return super().read(size) or b""
        except OSError as error:
            self.error = error
            raise


def _opened(path: Place) -> ObjectFile | _LocalFile:
    """Raises `UndecodableError`."""
    try:
        return ObjectFile(path) if isinstance(path, ObjectPath) else _LocalFile(path)
    except FileNotFoundError:
        what = "object" if isinstance(path, ObjectPath) else "file"
        raise UndecodableError(SourceReason.MISSING, f"{path.name}: no such {what} any more") from None
    except OSError as error:
        raise UndecodableError(SourceReason.UNREACHABLE, str(error)) from None


def _within(seconds: float, start: float, end: float) -> bool:
    return start - TIME_TOLERANCE <= seconds < end - TIME_TOLERANCE


def leaps_of(times: Sequence[float]) -> list[int]:
    """Indices of frames that come so long after the one before that the recording was interrupted."""
    gaps = np.diff(np.array(times))
    if not len(gaps):
        return []
    longest = max(PAUSE_SECONDS, PAUSE_FRAMES * float(np.median(gaps)))
    return [int(index) + 1 for index in np.flatnonzero(gaps > longest)]


def scaled(frame: av.VideoFrame, height: int, width: int, *, fast: bool = False) -> Pixels:
    """The frame as RGB (height, width, 3), turned upright. `fast` trades a little sharpness for half the time."""
    turns = round(frame.rotation / 90) % 4  # counterclockwise
    if turns % 2:
        height, width = width, height
    shrinks = height < frame.height or width < frame.width
    slow = "AREA" if shrinks else "BICUBIC"
    # scaling inside the converter costs less than full-size RGB; one thread, since files are the parallelism
    converted = frame.reformat(
        width, height, "rgb24", interpolation="FAST_BILINEAR" if fast else slow, threads=1
    )
    pixels: Pixels = converted.to_ndarray()
    return np.ascontiguousarray(np.rot90(pixels, turns)) if turns else pixels
