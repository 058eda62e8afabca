"""Footage that several files of tests look at; made once, since encoding is the slow part."""

from types import SimpleNamespace

import pytest
from footage_workspace import make_root, run_stage


@pytest.fixture(scope="session")
def curated(tmp_path_factory):
    """A workspace after footage, ingest, split and score, and the reports of these stages."""
    root = make_root(tmp_path_factory.mktemp("curated"))
    reports = {name: run_stage(root, name) for name in ("footage", "ingest", "split", "score")}
    return SimpleNamespace(root=root, videos=root / "data" / "footage", reports=reports)
