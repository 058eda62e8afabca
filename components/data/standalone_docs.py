"""Great Expectations' HTML pages made to stand alone: no network, no clock, no script.

As they are written, the pages load style sheets, scripts and a logo from seven hosts, which shows
nothing behind a firewall and tells those hosts who reads them; and they hold times and random ids, which
makes equal results unequal files. Here everything from outside is taken out and a small style sheet put
in.
"""

import re
import shutil
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

Finding = Mapping[str, Any]  # words, success, found

STYLE = """<style>
body { font: 15px/1.5 system-ui, sans-serif; color: #1f2328; background: #fff; margin: 0 auto; max-width: 75rem;
  padding: 0 1.5rem 3rem; }
table { border-collapse: collapse; width: 100%; margin: .5rem 0 1.5rem; }
th, td { border-bottom: 1px solid #d0d7de; padding: .35rem .6rem; text-align: left; vertical-align: top; }
a { color: #0b57a4; } ul, ol { padding-left: 1.2rem; } ol.breadcrumb { list-style: none; padding: 0; }
ol.breadcrumb li { display: inline; } ol.breadcrumb li + li::before { content: " / "; }
.alert { background: #f3f5f7; border-left: 4px solid #57606a; padding: .6rem 1rem; margin: 1.2rem 0 .6rem; }
.alert h5, .alert h6 { font-size: 1.05rem; margin: 0; } .h6 { font-weight: 600; } .sticky { position: static; }
.text-success { color: #1a7f37; } .text-danger { color: #b3261e; } .text-warning { color: #8a5a00; }
.fa-check-circle::before { content: "\\2713"; } .fa-times::before { content: "\\2717"; }
.fa-exclamation-triangle::before { content: "!"; } .fas { font-style: normal; font-weight: 700; }
.badge { background: #eaeef2; border-radius: 4px; padding: 0 .4em; } .badge-danger { background: #f9dedc; }
.card:has(.btn-group-toggle), .btn, .modal, .cooltip .top { display: none; }
@media (prefers-color-scheme: dark) {
  body { background: #0d1117; color: #e6edf3; } a { color: #6cb6ff; } th, td { border-color: #30363d; }
  .alert { background: #161b22; } .badge { background: #30363d; } .badge-danger { background: #5c1d1a; }
  .text-success { color: #57ab5a; } .text-danger { color: #f47067; } .text-warning { color: #daaa3f; }
}
</style>
"""
_SCRIPT = re.compile(r"<script\b.*?</script>", re.DOTALL)
_LINK = re.compile(r"<link\b[^>]*>")
_FOOTER = re.compile(r"<footer\b.*?</footer>", re.DOTALL)
_FONT = re.compile(r"@font-face\s*\{.*?\}", re.DOTALL)
_PICTURE = re.compile(r"url\([^)]*\)")  # in a style
_IMAGE = re.compile(r"<img\b[^>]*>")
_BLANK = re.compile(r"\n\s*\n+")
_CLOCK = re.compile(r"(?<=>)\d{8}T\d{6}\.\d{6}Z(?=<)")  # when the data was loaded; not the names of folders
_RANDOM = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


def make_standalone(folder: Path, *, clock: str) -> None:
    """Rewrite the pages under `folder` in place; `clock`, the time that stands for the run's, is taken out."""
    shutil.rmtree(folder / "static", ignore_errors=True)  # fonts and animations that no page needs
    for page in sorted(folder.rglob("*.html")):
        text = page.read_text()
        for pattern in (_SCRIPT, _LINK, _IMAGE, _FOOTER, _FONT, _PICTURE, _CLOCK):
            text = pattern.sub("", text)
        text = _BLANK.sub("\n", text.replace(clock, "").replace("</head>", f"{STYLE}</head>", 1))
        page.write_text(_numbered(text))


def write_index(folder: Path, title: str, findings: Sequence[Finding]) -> None:
    """`index.html`: every expectation in words, failed ones first, and links to the pages under `folder`."""
    pages = sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*.html") if path.parent != folder
    )
    failed = sum(not finding["success"] for finding in findings)
    rows = "".join(_row(finding) for finding in sorted(findings, key=lambda each: bool(each["success"])))
    links = "".join(f'<li><a href="{page}">{page.split("/")[0]}</a></li>' for page in pages)
    verdict = (
        f"{failed} of {len(findings)} expectations fail"
        if failed
        else f"All {len(findings)} expectations are met"
    )
    (folder / "index.html").write_text(
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>{STYLE}</head>'
        f"<body><h1>{escape(title)}</h1><p>{verdict}.</p>\n<table><thead><tr><th></th><th>Expectation</th>"
        f"<th>Found</th></tr></thead><tbody>\n{rows}</tbody></table>\n"
        f"<p>In detail, by Great Expectations:</p><ul>{links}</ul></body></html>\n"
    )


def _row(finding: Finding) -> str:
    mark = ("text-success", "met") if finding["success"] else ("text-danger", "fails")
    found = finding["found"]
    text = ", ".join(map(str, found)) if isinstance(found, list) else str(found)
    return f'<tr><td class="{mark[0]}">{mark[1]}</td><td>{escape(finding["words"])}</td><td>{escape(text)}</td></tr>\n'


def _numbered(text: str) -> str:
    """Random ids replaced by their rank of appearance; the parts of a page that refer to each other still do."""
    ranks = {name: f"part-{rank}" for rank, name in enumerate(dict.fromkeys(_RANDOM.findall(text)))}
    return _RANDOM.sub(lambda match: ranks[match[0]], text)
