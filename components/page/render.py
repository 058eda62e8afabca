"""A page from a template: one file that stands alone, written whole or not at all."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

HOUSE = Path(__file__).with_name("templates")  # the style sheet and the scripts that all pages share


def write_page(page: Path, templates: Path, name: str, contents: Mapping[str, Any]) -> Path:
    """Write `page` from the template `name`, which may include what is in `templates` and in the house's folder."""
    environment = Environment(
        loader=FileSystemLoader([templates, HOUSE]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    text = environment.get_template(name).render(**contents)
    page.parent.mkdir(parents=True, exist_ok=True)
    partial = page.with_name(f".{page.name}.partial")
    partial.write_text(text)
    partial.replace(page)
    return page
