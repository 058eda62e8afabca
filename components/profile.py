"""The profile: where a workspace's services are, in one file that flows, components and DVC go by.

`reelforge services up` writes it for servers on this machine, `reelforge infra profile` from Terraform's outputs for
a deployed platform. Without one, MLflow is an SQLite file in the workspace, Prefect starts its own server for a run,
and object storage is what AWS tools find. It holds addresses and no secret: credentials lie in the file that it names.
"""

import json
import os
from pathlib import Path
from typing import Literal

import yaml
from pydantic import ValidationError

from components.config import Section
from components.errors import UserError

FILE = "profile.yaml"
HEAD = "# Written by `{made_by}`; addresses only, no secrets. REELFORGE_PROFILE=none sets it aside for one command.\n"


SIGN_IN = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "PREFECT_API_AUTH_STRING")


class ProfileError(UserError):
    """The profile file is missing or does not describe services."""


class Buckets(Section):
    """Bucket names by use."""

    raw: str
    dvc: str
    mlflow: str
    checkpoints: str

    @property
    def names(self) -> tuple[str, ...]:
        return self.raw, self.dvc, self.mlflow, self.checkpoints


class Cluster(Section):
    """The Kubernetes cluster of a deployed platform, as AWS knows it."""

    name: str
    gpu_instance_type: str | None = None  # None: it has no GPU group
    gpu_max_nodes: int = 0
    gpu_purchase: str | None = None  # on-demand, spot or capacity-block


class Databases(Section):
    """Names of the databases' servers: `host:port/database` on one machine, RDS instance ids in AWS."""

    mlflow: str
    prefect: str


class Profile(Section):
    """Services of a workspace. `s3_endpoint` None is AWS itself; paths are relative to the workspace."""

    made_by: Literal["reelforge services", "reelforge infra"]
    mlflow_uri: str
    prefect_api: str
    work_pool: str = "local"
    region: str = "us-east-1"
    s3_endpoint: str | None = None
    credentials_file: Path | None = None  # in the format of AWS tools; None: what they find by themselves
    credentials_profile: str | None = None
    workspace: Path | None = None  # whose services they are, where it is another clone on this machine
    buckets: Buckets
    sign_in_file: Path | None = (
        None  # JSON with some of SIGN_IN, for MLflow and Prefect of a deployed platform
    )
    store: str | None = None  # of tables and latents, unless runtime.store says; None: in the workspace
    databases: Databases | None = None
    cluster: Cluster | None = None

    @classmethod
    def load(cls, path: Path) -> "Profile":
        """Raises `ProfileError` naming the file and the field."""
        try:
            return cls.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")) or {})
        except FileNotFoundError:
            raise ProfileError(
                f"there is no profile at {path} (REELFORGE_PROFILE): `reelforge services up` or `reelforge infra"
                " profile` writes one; REELFORGE_PROFILE=none does without"
            ) from None
        except yaml.YAMLError as error:
            raise ProfileError(f"{path} is not YAML: {error}; {_remake(path)}") from None
        except ValidationError as error:
            wrong = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
            raise ProfileError(f"{path} is not a profile: {wrong}; {_remake(path)}") from None

    def write(self, path: Path) -> None:
        """Replace the file as a whole."""
        text = yaml.safe_dump(self.model_dump(mode="json", exclude_none=True), sort_keys=False)
        partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
        partial.write_text(HEAD.format(made_by=self.made_by) + text, encoding="utf-8")
        partial.replace(path)

    def settings(self, root: Path) -> dict[str, str]:
        """The environment variables that the services' own libraries read."""
        values = {
            "MLFLOW_TRACKING_URI": self.mlflow_uri,
            "PREFECT_API_URL": self.prefect_api,
            "PREFECT_DEFAULT_WORK_POOL_NAME": self.work_pool,
            "AWS_DEFAULT_REGION": self.region,
        }
        if self.s3_endpoint:
            values |= {"AWS_ENDPOINT_URL": self.s3_endpoint, "MLFLOW_S3_ENDPOINT_URL": self.s3_endpoint}
        if self.credentials_file:
            values["AWS_SHARED_CREDENTIALS_FILE"] = str((root / self.credentials_file).resolve())
        if self.credentials_profile:
            values["AWS_PROFILE"] = self.credentials_profile
        return values | self._sign_in(root)

    def _sign_in(self, root: Path) -> dict[str, str]:
        if self.sign_in_file is None:
            return {}
        path = root / self.sign_in_file
        try:
            words = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ProfileError(
                f"{path}, which signs in to MLflow and Prefect, cannot be read: {error}; `reelforge infra profile`"
                " writes it"
            ) from None
        return {name: str(words[name]) for name in SIGN_IN if name in words}


def _remake(path: Path) -> str:
    return f"delete {path} and write it anew with `reelforge services up` or `reelforge infra profile`"
