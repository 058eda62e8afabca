"""Shared by the registry's tests: a workspace with an MLflow database."""

import shutil

import pytest


@pytest.fixture
def root(tmp_path, empty_database):
    """A workspace with a registry of its own."""
    shutil.copyfile(empty_database, tmp_path / "mlflow.db")
    return tmp_path
