"""Shared by the registry's tests: an MLflow database with its tables, which take seconds to make."""

import shutil

import pytest

from components.tracking_writer import connect


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory):
    root = tmp_path_factory.mktemp("empty")
    connect(root).search_experiments()
    return root / "mlflow.db"


@pytest.fixture
def root(tmp_path, empty_database):
    """A workspace with a registry of its own."""
    shutil.copyfile(empty_database, tmp_path / "mlflow.db")
    return tmp_path
