"""Which code made a result: a digest of the modules that a function is made of, and of the decoders it calls.

Kept results are asked for by it, so that a changed scorer is not answered with what the old one said.
"""

import ast
import hashlib
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("components.data", "models")  # what results come from; the rest of the house only carries them
CARRIERS = {
    f"components.data.{name}"
    for name in (
        "cluster",
        "code_version",
        "config",
        "item_places",
        "items",
        "outcomes",
        "pool",
        "reasons",
        "store",
        "workers",
    )
}
LIBRARIES = ("av", "opencv-python-headless", "opencv-python", "numpy")


@cache
def code_version(*modules: str) -> str:
    """sha256 of the modules and of all that they import from here, and the versions of the decoders."""
    digest = hashlib.sha256()
    waiting, seen = sorted(modules, reverse=True), set[str]()
    while waiting:
        name = waiting.pop()
        path = _file_of(name)
        if path is None or name in seen:
            continue
        seen.add(name)
        waiting += _imports(path)
    for name in sorted(seen):
        path = _file_of(name)
        digest.update(f"{name}\0".encode() + (path.read_bytes() if path else b""))
    for library in LIBRARIES:
        digest.update(f"{library}={_version(library)}\0".encode())
    return digest.hexdigest()


def _file_of(module: str) -> Path | None:
    """The source of a module of ours that results come from; None for all others, and for names in modules.

    Looked up by path: asking Python would import the packages on the way, and some of them are heavy.
    """
    if module in CARRIERS or not module.startswith(PACKAGES):
        return None
    base = ROOT.joinpath(*module.split("."))
    return next((path for path in (base.with_suffix(".py"), base / "__init__.py") if path.is_file()), None)


def _imports(path: Path) -> list[str]:
    names: list[str] = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return names


def _version(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        return "none"
