"""Shared by all tests: one thread per process, so that parallel workers do not fight for two cores."""

import atexit
import gc
import os
import signal
import uuid
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("shared machine", deadline=None)  # no test asserts how fast it is
settings.load_profile("shared machine")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("REELFORGE_TRACKING", "off")
os.environ.setdefault("DO_NOT_TRACK", "1")
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # a shell does so to its background jobs, and servers that end themselves by it, as Prefect's worker, would not end
    signal.signal(signal.SIGINT, signal.default_int_handler)
CHROMIUM = Path("/usr/bin/chromium")
gc.disable()  # until the tests are collected, see `pytest_collection_finish`


def pytest_collection_modifyitems(items):
    """The longest files first: one that is begun last would keep the other worker waiting at the end."""
    quick = {item.path for item in items if not item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path in quick)


def pytest_collection_finish():
    """What was imported stays: garbage is looked for in what the tests make, not in torch, again and again."""
    gc.freeze()
    gc.enable()
    atexit.register(gc.freeze)  # nor when the process ends


@pytest.fixture(autouse=True)
def environment():
    """Nothing that a test, or what it calls, has written into the environment reaches the next test."""
    before = dict(os.environ)
    yield
    for name in os.environ.keys() - before.keys():
        del os.environ[name]
    os.environ.update(before)


@pytest.fixture(scope="session")
def s3_server():
    """URL of an S3 endpoint on loopback."""
    from tests import s3

    with s3.server() as url:
        yield url


@pytest.fixture
def bucket(s3_server, monkeypatch):
    """Name of an empty bucket, at the endpoint that this process uses."""
    from tests import s3

    s3.use(s3_server, monkeypatch)
    name = f"bucket-{uuid.uuid4().hex[:12]}"
    s3.client(s3_server).create_bucket(Bucket=name)
    yield name
    s3.forget()


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory):
    """An MLflow database with its tables, which take seconds to make: to be copied."""
    from components.tracking_writer import connect

    root = tmp_path_factory.mktemp("empty")
    connect(root).search_experiments()
    return root / "mlflow.db"


@pytest.fixture(scope="module")
def browser():
    """A headless Chromium of the system."""
    if not CHROMIUM.exists():
        pytest.skip(f"{CHROMIUM} is not installed: make browser")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield chromium
        chromium.close()
