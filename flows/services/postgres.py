"""PostgreSQL for MLflow and Prefect: the server programs of this machine, a data folder of our own, loopback only.

The server refuses to run as root, so where we are root it runs as the user `postgres`, which its packages make.
"""

import hashlib
import os
import pwd
import re
import shutil
import signal
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from components.errors import UserError
from components.runtime import search_path, server_environment
from flows.services.daemon import Daemon
from flows.services.state import LOOPBACK, Passwords, State

SERVER_USER = "postgres"
SUPERUSER = "reelforge"
DATABASES = ("mlflow", "prefect")  # each belongs to a role of its own name
CONNECT_SECONDS = 2
STOP_SECONDS = 60.0
PROGRAM_FOLDERS = (
    "/usr/lib/postgresql/*/bin",  # Debian, Ubuntu
    "/usr/pgsql-*/bin",  # Red Hat
    "/opt/homebrew/opt/postgresql@*/bin",
    "/usr/local/opt/postgresql@*/bin",
)
INSTALL = (
    "install them (Debian and Ubuntu: `apt-get install postgresql`; Red Hat: `dnf install postgresql-server`;"
    " macOS: `brew install postgresql@17`); no system service of it is needed"
)


def programs(data: Path) -> Path:
    """Folder of `initdb` and `postgres`: of the data's version, else the newest. Raises `UserError`."""
    folders = [Path(found) for pattern in PROGRAM_FOLDERS for found in sorted(_glob(pattern))]
    on_path = shutil.which("initdb", path=search_path())
    folders = [*([Path(on_path).resolve().parent] if on_path else []), *folders]
    found = {_major(folder): folder for folder in folders if (folder / "initdb").is_file()}
    if not found:
        raise UserError(f"PostgreSQL's server programs are not on this machine: {INSTALL}")
    made_by = data / "PG_VERSION"
    if not made_by.is_file():
        return found[max(found)]
    version = int(made_by.read_text().split(".")[0])
    if version not in found:
        raise UserError(
            f"{data} was made by PostgreSQL {version}, and {', '.join(map(str, found))} is installed: install"
            f" {version}, or carry the databases over (docs/runbook.md, upgrade)"
        )
    return found[version]


def _glob(pattern: str) -> Iterator[str]:
    anchor, _, rest = pattern[1:].partition("/")
    return (str(found) for found in Path(f"/{anchor}").glob(rest))


def _major(folder: Path) -> int:
    said = subprocess.run(
        [folder / "initdb", "--version"], capture_output=True, text=True, check=False
    ).stdout
    version = re.search(r"(\d+)", said)
    return int(version[1]) if version else 0


def server_user() -> str | None:
    """The user that the server runs as; None where that is us. Raises `UserError`."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam(SERVER_USER).pw_name
    except KeyError:
        raise UserError(
            f"PostgreSQL does not run as root, and this machine has no user `{SERVER_USER}`: {INSTALL}"
        ) from None


def home(state: State) -> Path:
    """Folder of the data: in the workspace, unless root's workspace cannot be entered by the server's user."""
    inside = state.folder / "postgres"
    user = server_user()
    if user is None or all(folder.stat().st_mode & stat.S_IXOTH for folder in inside.parents):
        return inside
    place = hashlib.sha256(str(state.folder).encode()).hexdigest()[:12]
    return Path(pwd.getpwnam(user).pw_dir) / f"reelforge-{place}"


def initialise(state: State) -> None:
    """Make the data folder at the first start. A start that was cut off here begins it again."""
    place, user = home(state), server_user()
    if (place / "data" / "PG_VERSION").is_file():
        return
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    shutil.rmtree(place / "unfinished", ignore_errors=True)
    password = place / "password"
    password.touch(mode=0o600)
    password.write_text(state.passwords.postgres)
    if user:
        for path in (place, password):
            shutil.chown(path, user, user)
    unfinished = str(place / "unfinished")
    command = [str(programs(place / "data") / "initdb"), "--pgdata", unfinished, "--username", SUPERUSER]
    options = ["--auth", "scram-sha-256", "--pwfile", str(password), "--encoding", "UTF8", "--locale", "C"]
    try:
        made = subprocess.run(
            [*command, *options],
            cwd=place,
            env=server_environment({}),
            user=user,
            group=user,
            extra_groups=[] if user else None,
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        password.unlink()
    if made.returncode != 0:
        raise UserError(f"PostgreSQL could not make {place}: {made.stderr.strip()}")
    (place / "unfinished").replace(place / "data")


def daemon(state: State) -> Daemon:
    """The server. It is stopped by its fast shutdown, which ends sessions and writes everything."""
    data, port = home(state) / "data", state.ports.postgres
    settings = {"listen_addresses": LOOPBACK, "port": str(port), "unix_socket_directories": ""}
    options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    return Daemon(
        name="postgres",
        command=(str(programs(data) / "postgres"), "-D", str(data), *options),
        environment=server_environment({}),
        folder=home(state),
        log=state.log("postgres"),
        record=state.record("postgres"),
        healthy=lambda: _answers(state),
        address=f"{LOOPBACK}:{port}",
        user=server_user(),
        stop_signal=signal.SIGINT,
        stop_seconds=STOP_SECONDS,
    )


def forget_dead_server(state: State) -> None:
    """Delete the lock of a killed server that is a zombie, which PostgreSQL takes for a living one.

    Only while no process is at work in the data folder: a session may outlive its server for a moment.
    """
    data = home(state) / "data"
    lock = data / "postmaster.pid"
    with suppress(FileNotFoundError, psutil.Error):
        server = psutil.Process(int(lock.read_text().split()[0]))
        if server.status() == psutil.STATUS_ZOMBIE and not _at_work_in(data):
            lock.unlink()


def _at_work_in(folder: Path) -> bool:
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.status() != psutil.STATUS_ZOMBIE and process.cwd() == str(folder):
                return True
    return False


@contextmanager
def connected(state: State) -> Iterator[Any]:
    """A connection of the superuser, which commits each statement."""
    import psycopg

    with psycopg.connect(
        host=LOOPBACK,
        port=state.ports.postgres,
        user=SUPERUSER,
        password=state.passwords.postgres,
        dbname="postgres",
        connect_timeout=CONNECT_SECONDS,
        autocommit=True,
    ) as connection:
        yield connection


def _answers(state: State) -> bool:
    import psycopg

    try:
        with connected(state):
            return True
    except psycopg.OperationalError as error:
        if "password authentication failed" not in str(error):  # it has no code; our server speaks English
            return False
        raise UserError(
            f"PostgreSQL at port {state.ports.postgres} does not take the password of {state.passwords_file}: where a"
            f" rotation was cut off, {state.next_passwords_file.name} beside it is the right one (rename it); else put"
            " that file back, or delete the services' data (`reelforge services delete`)"
        ) from None


def make_databases(state: State) -> None:
    """A role and a database for each service; roles get the passwords of the file, so a new one is taken over."""
    from psycopg import sql

    with connected(state) as connection:
        roles = {row[0] for row in connection.execute("SELECT rolname FROM pg_roles")}
        databases = {row[0] for row in connection.execute("SELECT datname FROM pg_database")}
        for name in DATABASES:
            role = sql.Identifier(name)
            verb = "ALTER" if name in roles else "CREATE"
            password = sql.Literal(getattr(state.passwords, name))
            connection.execute(sql.SQL(verb + " ROLE {} LOGIN PASSWORD {}").format(role, password))
            if name not in databases:
                connection.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(role, role))
                connection.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(role))


def change_passwords(state: State, passwords: Passwords) -> None:
    """Of all roles at once."""
    from psycopg import sql

    with connected(state) as connection, connection.transaction():
        for name, attribute in ((SUPERUSER, "postgres"), *((name, name) for name in DATABASES)):
            password = sql.Literal(getattr(passwords, attribute))
            connection.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(name), password))


def database_sizes(state: State) -> dict[str, int]:
    """Database -> bytes."""
    with connected(state) as connection:
        rows = connection.execute("SELECT datname, pg_database_size(oid) FROM pg_database")
        return {str(name): int(size) for name, size in rows}


def password_file(state: State) -> Path:
    """Passwords as PostgreSQL's clients read them, so that none stands in a command line or an address."""
    return state.secret_folder / "pgpass"


def password_lines(state: State) -> str:
    users = {SUPERUSER: state.passwords.postgres} | {
        name: getattr(state.passwords, name) for name in DATABASES
    }
    return "".join(f"{LOOPBACK}:{state.ports.postgres}:*:{user}:{word}\n" for user, word in users.items())
