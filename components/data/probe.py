"""What a file is and whether it can be read to its end, found out by reading it: headers promise too much."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import av

from components.data.reasons import SourceReason
from components.data.video import UndecodableError, VideoFile, leaps_of
from components.storage import Place, sha256_of_file

INDEXED = (".mp4", ".mov", ".m4v")  # containers made of boxes with sizes, one of which is the index
MISSING_SECONDS = 1.0  # a declared length may be wrong by this, and by this share
MISSING_SHARE = 0.05
UNLIKE = 0.25  # of the usual time between frames: more is another frame rate
VARIABLE_SHARE = 0.01  # of the frames: a few late ones do not make the frame rate variable
TRANSFERS = {16: "pq", 18: "hlg"}  # ITU-T H.273: curves of high dynamic range


@dataclass(frozen=True)
class Probe:
    """Facts about a file; `reason` says why it is of no use, and the facts that are not known are zero."""

    digest: str  # sha256 of the bytes
    codec: str = ""
    width: int = 0  # pixels, as shown
    height: int = 0
    fps: float = 0.0  # mean over the file, interruptions left out
    frames: int = 0
    seconds: float = 0.0
    rotation: int = 0  # degrees that frames are turned by, counterclockwise, to be shown
    bits: int = 0  # of a sample: 8, or 10 and more
    transfer: str = ""  # "sdr", or the curve of high dynamic range: "pq" or "hlg"
    variable_rate: bool = False
    reason: str = ""
    detail: str = ""  # holds no name, so that it is the same for the same bytes


def probe(path: Place) -> Probe:
    """Read the whole file once, and decode its beginning and its end. Raises `OSError` where it cannot be had."""
    digest = sha256_of_file(path)
    if not path.stat().st_size:
        return Probe(digest, reason=SourceReason.ZERO_LENGTH, detail="the file is empty")
    if path.suffix.lower() in INDEXED and (missing := _missing_box(path)):
        return Probe(digest, reason=SourceReason.TRUNCATED, detail=missing)
    try:
        return _read(path, digest)
    except UndecodableError as error:
        if error.reason in (SourceReason.UNREACHABLE, SourceReason.MISSING):
            raise  # which says nothing about these bytes
        detail = error.detail.replace(f"{path.name}: ", "").replace(path.name, "the file")
        return Probe(digest, reason=error.reason, detail=detail)


def _missing_box(path: Place) -> str:
    """What an MP4 or MOV file lacks at its end, or nothing; walks the top-level boxes of ISO/IEC 14496-12."""
    length = path.stat().st_size
    kinds: list[bytes] = []
    with path.open("rb") as file:
        position = 0
        while position + 8 <= length:
            file.seek(position)
            size, kind = struct.unpack(">I4s", file.read(8))
            if not kinds and kind not in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
                return ""  # something else under this name: the decoder says what
            kinds.append(kind)
            if size == 1:
                size = int.from_bytes(file.read(8), "big")
            position = position + size if size >= 8 else length  # 0: to the end of the file
    if position > length:
        return f"ends {position - length} bytes before the end of its {kinds[-1].decode('latin-1')} box"
    return "" if b"moov" in kinds else "its index (moov box) is missing"


def _read(path: Place, digest: str) -> Probe:
    """The facts from the packets of the whole file and the frames at its two ends. Raises `UndecodableError`."""
    with VideoFile(path) as video:
        declared = video.declared_seconds
        times = video.packet_times()
        if not times:
            raise UndecodableError(SourceReason.ZERO_LENGTH, "it holds no frame")
        seconds = times[-1] + (_usual_gap(times) if leaps_of(times) else video.frame_seconds)
        if declared - seconds > max(MISSING_SECONDS, MISSING_SHARE * declared):
            detail = f"it holds {seconds:.1f} s of the {declared:.1f} s it declares"
            raise UndecodableError(SourceReason.TRUNCATED, detail)
        first, _ = video.nearest([0.0, times[-1]], start=0.0, end=float("inf"))
        height, width = video.shown_size(first.frame)
        return Probe(
            digest,
            codec=video.stream.codec_context.name,
            width=width,
            height=height,
            fps=round(len(times) / (seconds - _paused(times)), 6),
            frames=len(times),
            seconds=round(seconds, 6),
            rotation=round(first.frame.rotation / 90) * 90 % 360,
            bits=bits_of(first.frame),
            transfer=TRANSFERS.get(int(video.stream.codec_context.color_trc or 0), "sdr"),
            variable_rate=has_variable_rate(times),
        )


def _usual_gap(times: Sequence[float]) -> float:
    return sorted(after - before for before, after in pairwise(times))[len(times) // 2]


def _paused(times: Sequence[float]) -> float:
    """Seconds in which nothing was recorded."""
    return sum(times[leap] - times[leap - 1] for leap in leaps_of(times))


def bits_of(frame: av.VideoFrame) -> int:
    """Bits of a sample of the first plane."""
    bits: int = max(component.bits for component in frame.format.components)
    return bits


def has_variable_rate(times: Sequence[float]) -> bool:
    """True where more than a few frames come sooner or later than the usual time after the one before."""
    gaps = sorted(after - before for before, after in pairwise(times))
    if not gaps:
        return False
    usual = gaps[len(gaps) // 2]
    return sum(abs(gap - usual) > UNLIKE * usual for gap in gaps) > max(1, VARIABLE_SHARE * len(gaps))
