"""PostgreSQL, an S3 endpoint, MLflow and Prefect on this machine: started side by side, stores stopped last.

A workstation then has the shape of a deployed platform. Everything listens on 127.0.0.1, runs without the terminal
that started it, and goes on with its data at the next start.
"""

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from filelock import FileLock, Timeout

from components.errors import UserError
from components.profile import Databases, Profile
from flows.services import postgres, seaweedfs, servers, state
from flows.services.daemon import Daemon
from flows.services.profile_file import settle, withdraw
from flows.services.sharing import MADE_BY, check_not_deployed, check_own, home_of
from flows.services.startup import Said, Step, bring_up, stop_all
from flows.services.state import LOOPBACK, Passwords, State

HEALTHY_SECONDS = 300.0  # for each; 15 s is usual, and one that ends is told at once


@dataclass(frozen=True)
class Finding:
    """One service as it is now."""

    name: str
    address: str
    pid: int | None
    healthy: bool
    log: Path


@contextmanager
def _alone(root: Path) -> Iterator[None]:
    folder = state.folder_of(root)
    folder.mkdir(exist_ok=True)
    lock = FileLock(folder / "lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError(f"another `reelforge services` command is at work in {root.resolve()}") from None
    try:
        yield
    finally:
        lock.release()


def up(root: Path, said: Said, *, free_ports: bool = False) -> Profile:
    """Start what does not run, wait until all of it answers, write the profile. Raises `UserError`."""
    if sys.platform not in {"linux", "darwin"}:
        raise UserError(f"services run on Linux and macOS, this is {sys.platform}")
    check_not_deployed(root)
    check_own(root)
    _check_packages()
    with _alone(root):
        current = state.load_or_make(root, free_ports=free_ports)
        postgres.programs(postgres.home(current) / "data")  # refuses before anything is started
        _write_secrets(current)
        _clear(current)
        with seaweedfs.fetching(current) as fetched:
            postgres.initialise(current)
            bring_up(_steps(current, fetched, said), seconds=HEALTHY_SECONDS, said=said)
        return settle(root, _profile(root, current))


def _clear(current: State) -> None:
    """End what killed servers left behind; refuse ports that are taken, before anything is started."""
    daemons = _daemons(current)
    for daemon in daemons:
        daemon.clear()
    postgres.forget_dead_server(current)
    running = {daemon.name for daemon in daemons if daemon.process()}
    needed = {
        name: port
        for name, port in asdict(current.ports).items()
        if ("s3" if name.startswith("weed") else name) not in running
    }
    state.check_unused(needed, current.folder / "ports.json")


def _steps(current: State, fetched: Callable[[], bool], said: Said) -> list[Step]:
    """Databases before the servers that read them; the object store beside them, since they ask it only later."""

    def make_databases() -> None:
        postgres.make_databases(current)
        if servers.bring_tables_up_to_date(current):
            said("MLflow's tables were brought to the installed version")

    database, objects, mlflow, prefect = _daemons(current)
    return [
        Step(database, then=make_databases),
        Step(mlflow, needs=(database.name,)),
        Step(prefect, needs=(database.name,)),
        Step(objects, ready=fetched, then=partial(seaweedfs.make_buckets, current)),
    ]


def _daemons(current: State) -> list[Daemon]:
    return [
        postgres.daemon(current),
        seaweedfs.daemon(current),
        servers.mlflow(current),
        servers.prefect(current),
    ]


def down(root: Path, said: Said) -> None:
    """Stop everything, and take away the profile that points at it. The data stay."""
    check_own(root)
    current = state.load(root)
    with _alone(root):
        stores, above = _daemons(current)[:2], _daemons(current)[2:]
        for group in (above, stores):  # a request that is being answered is brought to its end
            for daemon, ran in zip(group, stop_all(group), strict=True):
                said(f"{daemon.name} {'stopped' if ran else 'was not running'}")
        withdraw(root, MADE_BY)


def rotate(root: Path, said: Said) -> None:
    """New passwords and a new key for everything; all of it starts again. Raises `UserError` where it does not run."""
    check_own(root)
    current = state.load(root)
    if not all(finding.healthy for finding in status(root)):
        raise UserError("passwords are changed while the services run: `reelforge services up` first")
    with _alone(root):
        passwords = Passwords()
        state.write_secret(current.next_passwords_file, json.dumps(asdict(passwords), indent=1))
        postgres.change_passwords(current, passwords)
        current.next_passwords_file.replace(current.passwords_file)
    down(root, said)
    up(root, said)


def status(root: Path) -> list[Finding]:
    """Raises `UserError` where services were never started."""
    findings = []
    for daemon in _daemons(state.load(home_of(root))):
        process = daemon.process()
        healthy = process is not None and _answers(daemon)
        findings.append(
            Finding(daemon.name, daemon.address, process.pid if process else None, healthy, daemon.log)
        )
    return findings


def _answers(daemon: Daemon) -> bool:
    with suppress(UserError):
        return daemon.healthy()
    return False


def delete(root: Path, said: Said) -> None:
    """Stop everything and delete databases, objects, passwords and logs."""
    check_own(root)
    current = state.load(root)
    down(root, said)
    for folder in (postgres.home(current), current.folder):
        if folder.exists():
            shutil.rmtree(folder)
            said(f"deleted {folder}")


def _write_secrets(current: State) -> None:
    seaweedfs.write_credentials(current)
    state.write_secret(postgres.password_file(current), postgres.password_lines(current))


def _profile(root: Path, current: State) -> Profile:
    database = f"{LOOPBACK}:{current.ports.postgres}"
    return Profile(
        made_by=MADE_BY,
        mlflow_uri=servers.mlflow_uri(current),
        prefect_api=servers.prefect_api(current),
        region=seaweedfs.REGION,
        s3_endpoint=seaweedfs.endpoint(current),
        credentials_file=current.credentials.relative_to(root.resolve()),
        credentials_profile=seaweedfs.CREDENTIALS_PROFILE,
        buckets=seaweedfs.BUCKETS,
        databases=Databases(mlflow=f"{database}/mlflow", prefect=f"{database}/prefect"),
    )


def _check_packages() -> None:
    missing = [name for name in ("boto3", "psycopg") if find_spec(name) is None]
    if missing:
        raise UserError(
            f"services need {' and '.join(missing)}: `pip install -e '.[cluster]'`, or `make install`"
        )
