"""Changes to `params.yaml` from the command line; comments and order stay."""

from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from components.errors import UserError
from components.params import Params


def set_values(path: Path, values: dict[str, Any]) -> None:
    """Set dotted keys, check the result as a whole, and only then write it. Raises `ParamsError`."""
    yaml = YAML()
    yaml.preserve_quotes = True  # `1:1` without quotes is the number 61 in YAML 1.1
    yaml.width = 4096
    document = yaml.load(path.read_text())
    for dotted, value in values.items():
        *sections, key = dotted.split(".")
        node = document
        for section in sections:
            node = node[section]
        node[key] = value
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("w") as stream:
        yaml.dump(document, stream)
    try:
        Params.load(partial)
    except UserError:
        partial.unlink()
        raise
    partial.replace(path)
