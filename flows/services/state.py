"""What the services of a workspace keep between starts: their ports, their passwords, where PostgreSQL's data lie.

All of it is below `.services/`, which git ignores; what is secret can be read by its owner only.
"""

import json
import os
import secrets
import socket
from dataclasses import asdict, dataclass, field, fields
from itertools import islice
from pathlib import Path

from components.artifacts import read_json, write_json
from components.errors import UserError

FOLDER = ".services"
LOOPBACK = "127.0.0.1"
PASSWORD_BYTES = 24
# where free ports are looked for: below those that a system gives to outgoing connections, which may take them later
FREE_PORTS = range(20_000, 32_000)


@dataclass(frozen=True)
class Ports:
    """Of 127.0.0.1. Those that begin with `weed` are SeaweedFS's own; nothing but itself speaks to them."""

    postgres: int = 55432
    s3: int = 8333
    mlflow: int = 5001
    prefect: int = 4200
    weed_s3_grpc: int = 18333
    weed_master: int = 9333
    weed_master_grpc: int = 19333
    weed_volume: int = 8380
    weed_volume_grpc: int = 18380
    weed_filer: int = 8888
    weed_filer_grpc: int = 18888


@dataclass(frozen=True)
class Passwords:
    """Made once, at random."""

    postgres: str = field(default_factory=lambda: secrets.token_urlsafe(PASSWORD_BYTES))  # of its superuser
    mlflow: str = field(default_factory=lambda: secrets.token_urlsafe(PASSWORD_BYTES))
    prefect: str = field(default_factory=lambda: secrets.token_urlsafe(PASSWORD_BYTES))
    s3_key: str = field(default_factory=lambda: secrets.token_hex(10).upper())
    s3_secret: str = field(default_factory=lambda: secrets.token_urlsafe(PASSWORD_BYTES))


@dataclass(frozen=True)
class State:
    """The folder and what is in it."""

    folder: Path
    ports: Ports
    passwords: Passwords

    @property
    def secret_folder(self) -> Path:
        return self.folder / "secrets"

    @property
    def passwords_file(self) -> Path:
        return self.secret_folder / "passwords.json"

    @property
    def next_passwords_file(self) -> Path:
        """While passwords are being changed."""
        return self.secret_folder / "passwords.next.json"

    @property
    def credentials(self) -> Path:
        """S3 keys in the format of AWS tools."""
        return self.secret_folder / "aws_credentials"

    def log(self, name: str) -> Path:
        return self.folder / "logs" / f"{name}.log"

    def record(self, name: str) -> Path:
        return self.folder / "running" / f"{name}.json"


def folder_of(root: Path) -> Path:
    return root.resolve() / FOLDER


def load(root: Path) -> State:
    """The state of services that were started before. Raises `UserError` where there are none."""
    folder = folder_of(root)
    if not (folder / "ports.json").is_file():
        raise UserError(f"no services were ever started in {root.resolve()}: `reelforge services up`")
    written = read_json(folder / "ports.json")  # of an older start it may name more
    ports = Ports(**{each.name: written[each.name] for each in fields(Ports)})
    return State(folder, ports, Passwords(**read_json(folder / "secrets" / "passwords.json")))


def load_or_make(root: Path, *, free_ports: bool = False) -> State:
    """`free_ports`: at the first start take ports that nobody uses instead of the usual ones; they are kept."""
    folder = folder_of(root)
    for part in (folder, folder / "running", folder / "logs"):
        part.mkdir(exist_ok=True)
        part.chmod(0o711)  # PostgreSQL's user goes through it where the workspace belongs to root
    (folder / "secrets").mkdir(mode=0o700, exist_ok=True)
    if not (folder / "secrets" / "passwords.json").is_file():
        write_secret(folder / "secrets" / "passwords.json", json.dumps(asdict(Passwords()), indent=1))
    if not (folder / "ports.json").is_file():
        write_json(folder / "ports.json", asdict(_unused() if free_ports else Ports()))
    return load(root)


def write_secret(path: Path, content: str) -> None:
    """A file that only its owner can read, from its first byte on; replaced as a whole."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    partial.unlink(missing_ok=True)
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    os.close(descriptor)
    partial.write_text(content, encoding="utf-8")
    partial.replace(path)


def _unused() -> Ports:
    names = [each.name for each in fields(Ports)]
    candidates = secrets.SystemRandom().sample(FREE_PORTS, len(FREE_PORTS))
    free = islice((port for port in candidates if _is_free(port)), len(names))
    return Ports(**dict(zip(names, free, strict=True)))


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def check_unused(ports: dict[str, int], file: Path) -> None:
    """Nobody else listens there. Raises `UserError` naming all that are taken, and the file that says so."""
    taken = [f"{name} {port}" for name, port in ports.items() if not _is_free(port)]
    if taken:
        raise UserError(
            f"in use by another program: port {', '.join(taken)}; end it, or write other ports into {file}"
            " (before the first start: `reelforge services up --free-ports`)"
        )
