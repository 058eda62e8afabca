"""One change of the registry at a time, whichever machine it comes from.

A file lock holds back the processes of one workspace. Workspaces on other machines share nothing but the registry, so
the lock that counts is in it: a registered model of a fixed name, which only one of them can create.
"""

import logging
import random
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock
from mlflow.exceptions import MlflowException

from components.errors import UserError
from components.tracking_writer import connect

log = logging.getLogger(__name__)
LOCK = "reelforge-lock"
WAIT_SECONDS = 600.0
STALE_SECONDS = 900.0  # without a sign of life: the holder has died
BEAT_SECONDS = 60.0  # between two signs of life of the holder
PAUSE_SECONDS = 0.2


@contextmanager
def registry_lock(root: Path) -> Iterator[None]:
    """Held while versions or aliases change. Raises `UserError` when somebody else holds it for ten minutes."""
    folder = root / "registry"
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".lock", timeout=WAIT_SECONDS):
        client, holder = connect(root), uuid.uuid4().hex
        _acquire(client, holder)
        try:
            with _signs_of_life(root, holder):
                yield
        finally:
            _release(client, holder)


@contextmanager
def _signs_of_life(root: Path, holder: str) -> Iterator[None]:
    """Say again and again that the holder is at work: to upload a large model takes longer than a stale lock lives."""
    ended = threading.Event()

    def work() -> None:
        client = connect(root)
        while not ended.wait(BEAT_SECONDS):
            try:
                if _held(client).get("holder") == holder:
                    client.set_registered_model_tag(LOCK, "since", f"{time.time():.3f}")
            except MlflowException as error:
                log.warning("the lock of the registry could not be renewed: %s", error)

    thread = threading.Thread(target=work, name="registry-lock", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _acquire(client: Any, holder: str) -> None:
    until = time.monotonic() + WAIT_SECONDS
    while True:
        try:
            client.create_registered_model(LOCK, tags={"holder": holder, "since": f"{time.time():.3f}"})
            return
        except MlflowException as error:
            if error.error_code not in {
                "RESOURCE_ALREADY_EXISTS",
                "TEMPORARILY_UNAVAILABLE",
                "INTERNAL_ERROR",
            }:
                raise
        _remove_stale(client)
        if time.monotonic() > until:
            raise UserError(
                f"another release has held the registry for {WAIT_SECONDS / 60:.0f} minutes; if none is running, delete"
                f" the registered model `{LOCK}` in MLflow"
            )
        time.sleep(PAUSE_SECONDS * (0.5 + random.random()))  # only spreads the waiters


def _held(client: Any) -> dict[str, str]:
    try:
        return dict(client.get_registered_model(LOCK).tags)
    except MlflowException:
        return {}  # released in the meantime


def _remove_stale(client: Any) -> None:
    tags = _held(client)
    if tags and time.time() - float(tags["since"]) > STALE_SECONDS:
        log.warning("the registry was locked by a release that has died; going on")
        _release(client, tags["holder"])


def _release(client: Any, holder: str) -> None:
    if _held(client).get("holder") == holder:
        client.delete_registered_model(LOCK)
