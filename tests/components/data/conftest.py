"""Footage that several files of tests look at; made once, since encoding is the slow part."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from footage_workspace import make_root, run_stage

REAL = Path(__file__).parents[4] / "shared" / "videos"


@pytest.fixture(scope="session")
def curated(tmp_path_factory):
    """A workspace after footage, ingest, split and score, and the reports of these stages."""
    root = make_root(tmp_path_factory.mktemp("curated"))
    reports = {name: run_stage(root, name) for name in ("footage", "ingest", "split", "score")}
    return SimpleNamespace(root=root, videos=root / "data" / "footage", reports=reports)


@pytest.fixture
def real_footage() -> Callable[[str], Path]:
    """The path of a real video by its name, from a folder beside the checkout that not every machine has.

    What is asked of it is asked of made footage too, in the same files: this says that the answers are not for made
    footage alone.
    """

    def find(name: str) -> Path:
        path = REAL / name
        if not path.exists():
            pytest.skip(f"{REAL} holds no real footage here; made footage is asked the same")
        return path

    return find
