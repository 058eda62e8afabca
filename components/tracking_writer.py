"""The thread that talks to MLflow for `components.tracking`.

Operations are kept in order and repeated until the server has taken them, so a locked database or a server
that restarts costs nothing but time; a request that can never succeed is dropped with a warning.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psutil

from components import runtime
from components.imports import load

log = logging.getLogger(__name__)

EXPERIMENT = "reelforge"
SQLITE = "sqlite:///"
FLUSH_SECONDS = 2.0
RETRY_SECONDS = (0.2, 0.5, 1.0, 2.0, 5.0, 15.0)  # the last one repeats
SYSTEM_SECONDS = 10.0
METRICS_PER_BATCH = 1_000  # limit of MLflow's API
KEPT_OPERATIONS = 10_000  # while the server is away; then the oldest go
PERMANENT = {"INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST", "PERMISSION_DENIED", "ENDPOINT_NOT_FOUND"}
MEGABYTE = 1e6

Operation = Callable[[Any, str], None]  # (MlflowClient, run id)


def connect(root: Path) -> Any:
    """An `MlflowClient` for the workspace's tracking server and registry."""
    uri = runtime.tracking_uri(root)
    load("mlflow")
    if uri.startswith(SQLITE):
        load("mlflow.store.tracking.sqlalchemy_store")
    from mlflow import MlflowClient
    from mlflow.environment_variables import MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR

    MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR.set(False)  # it would draw over our own
    for chatty in ("alembic", "mlflow.store.db.utils"):  # dozens of lines when a database is made
        logging.getLogger(chatty).setLevel(logging.WARNING)
    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def has_store(root: Path) -> bool:
    """True if anything was ever tracked here; asking a missing SQLite file would make it."""
    uri = runtime.tracking_uri(root)
    return not uri.startswith(SQLITE) or Path(uri.removeprefix(SQLITE)).is_file()


def experiment_id(client: Any, root: Path) -> str:
    """The workspace's experiment, made at first use. A local store keeps its files in `mlartifacts/`."""
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(EXPERIMENT)
    if found is not None:
        return str(found.experiment_id)
    is_server = runtime.tracking_uri(root).startswith("http")  # a server has its own place for files
    location = None if is_server else (root / "mlartifacts").resolve().as_uri()
    try:
        return str(client.create_experiment(EXPERIMENT, artifact_location=location))
    except MlflowException:
        found = client.get_experiment_by_name(EXPERIMENT)  # another process was faster
        if found is None:
            raise
        return str(found.experiment_id)


class Writer:
    """One MLflow run, written from a thread of its own."""

    def __init__(self, root: Path, *, name: str, tags: Mapping[str, str], sample_system: bool) -> None:
        self.run_id: str | None = None
        self._root = root
        self._name = name
        self._tags = dict(tags)
        self._started = _milliseconds()
        self._client: Any = None
        self._operations: deque[Operation] = deque()
        self._metrics: list[tuple[str, float, int, int]] = []  # key, value, time, step
        self._lock = threading.Lock()
        self._opened = threading.Event()
        self._closing = threading.Event()
        self._refused = False  # the server will never open this run
        self._failures = 0
        self._dropped = 0
        self._sampler = psutil.Process() if sample_system else None
        self._sampled = 0.0
        self._samples = 0
        self._thread = threading.Thread(target=self._work, name=f"mlflow-{name}", daemon=True)
        self._thread.start()

    def submit(self, operation: Operation) -> None:
        """Queue an operation; it gets the client and the id of the run."""
        with self._lock:
            self._operations.append(operation)
            if len(self._operations) > KEPT_OPERATIONS:
                self._operations.popleft()
                self._dropped += 1

    def set_tags(self, tags: Mapping[str, str]) -> None:
        if not tags:
            return

        def write(client: Any, run_id: str) -> None:
            from mlflow.entities import RunTag

            client.log_batch(run_id, tags=[RunTag(key, value) for key, value in tags.items()])

        self.submit(write)

    def add_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        now = _milliseconds()
        with self._lock:
            self._metrics.extend((key, value, now, step) for key, value in metrics.items())

    def wait_until_open(self, seconds: float) -> str | None:
        """The run's id, or None with a warning if MLflow has not answered by then."""
        if not self._opened.wait(seconds):
            log.warning("MLflow has not answered in %.0f s; stages will not share a parent run", seconds)
        return self.run_id

    def close(self, status: str, seconds: float) -> None:
        """Send what is left and end the run. Gives up after `seconds`, saying what is missing."""
        ended = _milliseconds()
        self._queue_metrics()
        self.submit(lambda client, run_id: client.set_terminated(run_id, status, ended))
        self._closing.set()
        self._thread.join(seconds)
        missing = len(self._operations) + self._dropped
        if missing:
            log.warning(
                "MLflow at %s did not take %d requests of run `%s`; reports/ and curves/ hold the numbers",
                runtime.tracking_uri(self._root),
                missing,
                self._name,
            )

    def _work(self) -> None:
        load("mlflow")
        while True:
            closing = self._closing.is_set()
            self._sample_system()
            self._queue_metrics()
            done = self._send_all()
            if closing and done:
                return
            if closing:
                time.sleep(self._retry_delay())
            else:
                self._closing.wait(FLUSH_SECONDS if done else self._retry_delay())

    def _retry_delay(self) -> float:
        return RETRY_SECONDS[min(self._failures, len(RETRY_SECONDS)) - 1]

    def _send_all(self) -> bool:
        """Send the queue in order. False if the server is away and something is left."""
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

        try:
            self._open()
            while self._operations:
                operation = self._operations[0]
                self._send(operation)
                with self._lock:
                    if self._operations and self._operations[0] is operation:
                        self._operations.popleft()
        except (MlflowException, SQLAlchemyError, OSError) as error:
            if self.run_id is None and getattr(error, "error_code", None) in PERMANENT:
                self._give_up(error)
                return True
            self._failures += 1
            if self._failures == len(RETRY_SECONDS):
                log.warning(
                    "MLflow at %s does not answer; numbers are kept and sent when it does: %s",
                    runtime.tracking_uri(self._root),
                    error,
                )
            return False
        self._failures = 0
        return True

    def _open(self) -> None:
        if self.run_id is not None or self._refused:
            return
        if self._client is None:
            self._client = connect(self._root)
        experiment = experiment_id(self._client, self._root)
        run = self._client.create_run(experiment, self._started, self._tags, self._name)
        self.run_id = str(run.info.run_id)
        self._opened.set()

    def _send(self, operation: Operation) -> None:
        """Raises what a repetition may mend; drops what none can."""
        from mlflow.exceptions import MlflowException

        if self.run_id is None:  # the run was refused
            return
        try:
            operation(self._client, self.run_id)
        except MlflowException as error:
            if error.error_code not in PERMANENT:
                raise
            self._dropped += 1
            log.warning("MLflow refused a request of run `%s`: %s", self._name, error)

    def _give_up(self, error: Exception) -> None:
        self._refused = True
        self._dropped += len(self._operations)
        self._operations.clear()
        self._opened.set()
        log.warning("MLflow refused to open run `%s`, which goes on untracked: %s", self._name, error)

    def _queue_metrics(self) -> None:
        with self._lock:
            waiting, self._metrics = self._metrics, []
        for start in range(0, len(waiting), METRICS_PER_BATCH):
            self.submit(_metrics_operation(waiting[start : start + METRICS_PER_BATCH]))

    def _sample_system(self) -> None:
        """Memory of this process and its children, and the share of a processor it uses."""
        now = time.monotonic()
        if self._sampler is None or now - self._sampled < SYSTEM_SECONDS:
            return
        self._sampled = now
        try:
            family = [self._sampler, *self._sampler.children(recursive=True)]
            memory = sum(process.memory_info().rss for process in family)
            sample = {
                "system/process_memory_megabytes": memory / MEGABYTE,
                "system/process_cpu_percent": self._sampler.cpu_percent(),
            }
        except psutil.NoSuchProcess:  # a child ended between the two lines; the next sample will do
            return
        self.add_metrics(sample, self._samples)
        self._samples += 1


def _metrics_operation(values: list[tuple[str, float, int, int]]) -> Operation:
    def write(client: Any, run_id: str) -> None:
        from mlflow.entities import Metric

        client.log_batch(run_id, metrics=[Metric(*value) for value in values])

    return write


def _milliseconds() -> int:
    return int(time.time() * 1000)
