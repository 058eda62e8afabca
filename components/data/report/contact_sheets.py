"""What training is fed, in the report: the contact sheets that the encode stages left behind."""

from dataclasses import dataclass
from pathlib import Path

from components.artifacts import read_json
from components.page.media import picture_uri
from components.stages import LATENT_PICTURES


@dataclass(frozen=True)
class Sheet:
    """The picture of one bucket. `psnr` in dB: of the decoded latents against the frames, mean over its lines."""

    encode: str
    bucket: str
    picture: str  # data URI
    psnr: float
    lines: int


def contact_sheets(root: Path) -> list[Sheet]:
    """All sheets of the workspace; none before anything was encoded."""
    found = []
    for index in sorted((root / LATENT_PICTURES).glob("*/*.json")):
        for sheet in read_json(index):
            quality = [line["psnr"] for line in sheet["lines"]]
            picture = picture_uri((index.parent / sheet["file"]).read_bytes())
            mean = sum(quality) / len(quality)
            found.append(Sheet(index.parent.name, sheet["bucket"], picture, mean, len(quality)))
    return found
