"""Captions as plain text: what web pages and captioning models put around a description is taken off."""

import html
import re
import unicodedata

# "The video shows", "In this clip, we can see": what a captioning model says about its task, not about the video
_MEDIUM = r"(?:video|clip|footage|scene|image|frame|animation)s?"
_ADJECTIVE = r"(?:(?:short|given|provided|entire|whole|first|opening|animated)\s+)?"
_VERB = (
    r"(?:shows?|showing|depicts?|depicting|features?|featuring|displays?|captures?|presents?|portrays?"
    r"|illustrates?|(?:begins|opens|starts)\s+with|consists\s+of|is\s+about)"
)
_SEE = r"(?:(?:we|you|one)\s+(?:can\s+)?(?:sees?|observes?)|there\s+(?:is|are))\s+"
_OPENERS = (
    re.compile(rf"(?:the|this)\s+{_ADJECTIVE}{_MEDIUM}\s+{_VERB}\s+(?:that\s+|us\s+)?", re.IGNORECASE),
    re.compile(r"(?:sure|certainly|of\s+course|okay|ok)\s*[,!.:]\s*", re.IGNORECASE),
    re.compile(r"here(?:'s|\s+is|\s+are)\s+(?:a|an|the|your)\s+[\w ,'-]{0,60}:\s*", re.IGNORECASE),
    re.compile(r"(?:caption|description|answer|summary)\s*:\s*", re.IGNORECASE),
    re.compile(rf"this\s+is\s+an?\s+{_ADJECTIVE}{_MEDIUM}\s+(?:of|{_VERB})\s+", re.IGNORECASE),
    re.compile(rf"in\s+(?:the|this)\s+{_ADJECTIVE}{_MEDIUM}(?:\s*,\s*(?:{_SEE})?|\s+{_SEE})", re.IGNORECASE),
)
_TAG = re.compile(r"</?[a-zA-Z][^<>]*>|<!--.*?-->", re.DOTALL)
_URL = re.compile(r"\b(?:https?://|www\.)[^\s<>\"']+", re.IGNORECASE)
_HANDLE = re.compile(r"(?<![\w.])@\w+")
_FILE = re.compile(
    r"(?<![\w.])[\w-]+\.(?:mp4|mov|avi|mkv|webm|m4v|gif|jpe?g|png|webp|tiff?|bmp|eps|psd|pdf|txt|srt)\b",
    re.IGNORECASE,
)
_INVISIBLE = ("Cc", "Cf", "Co", "Cs")  # control, format (as zero width), private, surrogate


def clean_caption(text: str, *, max_words: int, lower_case: bool = False) -> str:
    """The caption as plain text of at most `max_words` words; empty when nothing is left.

    HTML, URLs, handles, names of media files and what a captioning model says about its task are removed,
    characters are brought to their NFKC form. Case is kept unless `lower_case` is asked for: whether it
    matters is for the text encoder to decide.
    """
    text = html.unescape(html.unescape(text))  # twice: exports escape what was escaped already
    text = unicodedata.normalize("NFKC", text)
    for pattern in (_TAG, _URL, _HANDLE, _FILE):
        text = pattern.sub(" ", text)
    text = "".join(" " if unicodedata.category(c) in _INVISIBLE else c for c in text)
    text = " ".join(text.split())
    text = _without_openers(text)
    if not any(character.isalnum() for character in text):
        return ""
    cleaned = " ".join(text.split()[:max_words])
    return cleaned.lower() if lower_case else cleaned


def _without_openers(text: str) -> str:
    """Models put several in a row: "Sure! Here is a caption: The video shows a cat"."""
    while match := next((found for opener in _OPENERS if (found := opener.match(text))), None):
        text = text[match.end() :]
    return text
