"""Media inside of a page, so that the page is one file."""

import base64


def data_uri(content: bytes) -> str:
    """An MP4 file as text that can stand in the page."""
    return f"data:video/mp4;base64,{base64.b64encode(content).decode()}"


def picture_uri(content: bytes) -> str:
    """A PNG file as text that can stand in the page."""
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"
