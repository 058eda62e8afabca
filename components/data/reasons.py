"""Why an item was left out: one code per reason, spelt the same in tables, reports and charts."""

from enum import StrEnum


class RejectReason(StrEnum):
    """Reason codes of clips; an item may carry several."""

    # filter: a stored score is past its threshold
    TOO_STATIC = "too_static"  # the objects hardly move, whatever the camera does
    BLURRY = "blurry"
    TEXT_OVERLAY = "text_overlay"
    TOO_DARK = "too_dark"
    TOO_BRIGHT = "too_bright"
    TOO_FAST = "too_fast"
    BLACK = "black"  # too many black frames
    FROZEN = "frozen"  # too many frames that repeat the one before
    UNAESTHETIC = "unaesthetic"
    CAPTION_MISMATCH = "caption_mismatch"  # the caption does not describe the picture
    TOO_SMALL = "too_small"  # fewer pixels than `filter.min_side`
    UNSCORED = "unscored"  # the clip could not be read for a score that is filtered on
    TAKEN_DOWN = "taken_down"  # it is in registry/takedowns.jsonl
    QUARANTINED = "quarantined"  # it is in registry/quarantine.jsonl: training could not use it

    # caption
    FOREIGN_LANGUAGE = "foreign_language"  # the caption is in another language than `caption.language`

    # dedup
    DUPLICATE = "duplicate"  # in reports; the table names the clip it is a duplicate of


class SourceReason(StrEnum):
    """Reason codes of whole files, and of work on one item."""

    UNREADABLE = "unreadable"  # not a video, or damaged beyond its header
    TRUNCATED = "truncated"  # the data ends before the header says
    NO_VIDEO = "no_video"  # sound or subtitles only
    ZERO_LENGTH = "zero_length"
    UNREACHABLE = (
        "unreachable"  # the object store, or the file system, did not hand it out: another run may get it
    )
    MISSING = "missing_file"  # a manifest names it, and it is not below the videos folder
    BAD_ROW = "bad_row"  # a row of the manifest that cannot be understood
    BAD_SIDECAR = "bad_sidecar"  # its sidecar cannot be read, so that its split is not known
    EXACT_DUPLICATE = "exact_duplicate"  # same bytes as a file that sorts before it
    TAKEN_DOWN = "taken_down"  # it, or its licence, is in registry/takedowns.jsonl
    TOO_FLAT = "too_flat"  # so much wider or taller than the other way that nothing can be measured in it
    CRASHED = "crashed"  # the decoder took its process down
    TIMED_OUT = "timed_out"

    # split: the file is good, a piece of it is no clip
    TOO_SHORT = "too_short"
    NO_FRAMES = "no_frames"  # a span of the manifest in which the file has no frame
