"""Mirrored windows as samples of their own, and the captions that forbid them.

A mirror turns left into right and makes writing unreadable, so a clip whose caption speaks of either would teach the
wrong word. What counts is the caption that training reads, including a suffix such as `camera motion: pan left`.
"""

import re
from typing import Any

import numpy as np

PLAIN, MIRRORED = "plain", "mirrored"
VARIANTS = (PLAIN, MIRRORED)
SIDES = """
left lefts leftmost leftward leftwards lefthand lefty right rightmost rightward rightwards righthand righty
clockwise counterclockwise anticlockwise east eastern eastward eastwards west western westward westwards
port starboard
"""
WRITING = """
text texts textual word words wording letter letters lettering alphabet character characters caption captions
subtitle subtitles title titles titled headline headlines heading credits logo logos watermark watermarks brand
sign signs signage signpost billboard billboards banner banners poster posters label labels labeled labelled
writing writes written handwriting handwritten inscription inscribed font typography typed printed
number numbers numeral numerals digit digits numberplate barcode
spells spelling spelled reads reading readable says saying
book books newspaper newspapers magazine magazines page pages menu document documents
keyboard clock clocks watch calendar map maps chart graph diagram scoreboard screenshot website
"""
QUOTED = re.compile(r"[\"“”«»„]")  # quotation marks stand around what can be read in the picture
FORBIDDEN = frozenset(f"{SIDES} {WRITING}".split())
_WORD = re.compile(r"[a-z]+")


def may_be_mirrored(*captions: str) -> bool:
    """False where one of a clip's captions names a side, a sense of rotation, or something that can be read.

    The words are English. They forbid rather too much (`right away`, `a watch`): a mirror that is not made costs a
    sample, a wrong one teaches a lie. A caption with letters that English has not cannot be judged and forbids it too.
    """
    return all(_keeps_its_meaning(caption) for caption in captions)


def _keeps_its_meaning(caption: str) -> bool:
    if any(letter.isalpha() and not letter.isascii() for letter in caption):
        return False
    return not QUOTED.search(caption) and FORBIDDEN.isdisjoint(_WORD.findall(caption.lower()))


def mirrored(frames: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """frames: (..., height, width, 3), left and right exchanged."""
    return np.ascontiguousarray(frames[..., ::-1, :])
