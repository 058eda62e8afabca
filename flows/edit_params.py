"""Changes to `params.yaml` from the command line; comments and order stay."""

import copy
import io
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import Any

import yaml as plain
from ruamel.yaml import YAML

from components.errors import UserError
from components.params import Params


def set_values(path: Path, values: dict[str, Any]) -> None:
    """Set dotted keys, check the result as a whole, and only then write it. Raises `ParamsError`."""
    yaml = _yaml()
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


def with_values(text: str, changes: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """A parameter file with `changes` in it, so that it says `wanted`; comments stay.

    A section that shares values with others through an anchor is written out in full, without its comments: a change in
    one place would be one in the others too.
    """
    yaml = _yaml()
    document = yaml.load(text)
    _put(document, changes)
    said = plain.safe_load(_dumped(yaml, document))
    for section in changes:
        if said[section] != wanted[section]:
            document[section] = copy.deepcopy(wanted[section])
    return _dumped(yaml, document)


def _yaml() -> YAML:
    yaml = YAML()
    yaml.preserve_quotes = True  # `1:1` without quotes is the number 61 in YAML 1.1
    yaml.width = 4096
    return yaml


def _dumped(yaml: YAML, document: Any) -> str:
    stream = io.StringIO()
    yaml.dump(document, stream)
    return stream.getvalue()


def _put(document: MutableMapping[str, Any], changes: Mapping[str, Any]) -> None:
    for key, value in changes.items():
        if isinstance(value, Mapping) and isinstance(inner := document.get(key), MutableMapping):
            _put(inner, value)
        else:
            document[key] = value
