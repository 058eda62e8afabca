"""The profile of a deployed platform, from Terraform's outputs and the passwords in Secrets Manager."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from components.errors import UserError
from components.profile import Buckets, Cluster, Databases, Profile
from flows.services.state import FOLDER, LOOPBACK, write_secret

MLFLOW_PORT, PREFECT_PORT = 5000, 4200  # of the services, and of this machine where they are forwarded to it
FORWARDED = {  # addresses on this machine while `kubectl port-forward` runs
    "mlflow": f"http://{LOOPBACK}:{MLFLOW_PORT}",
    "prefect": f"http://{LOOPBACK}:{PREFECT_PORT}/api",
}
MLFLOW_USER = "admin"
SIGN_IN = Path(FOLDER) / "secrets" / "platform_sign_in.json"


def profile_of(output: Mapping[str, Any], *, inside: bool) -> Profile:
    """`output`: of Terraform's `profile`. `inside`: for a process in the cluster, which reaches services by name.

    Raises `UserError` where the environment's cluster is down.
    """
    cluster, databases, gpu = output["cluster"], output["databases"], output["gpu"]
    if not (cluster and cluster["name"] and databases):
        raise UserError(
            f"{output['environment']} has its buckets but no cluster: `reelforge infra up` brings it back"
        )
    services = output["services"] if inside else FORWARDED
    return Profile(
        made_by="reelforge infra",
        mlflow_uri=services["mlflow"],
        prefect_api=services["prefect"],
        work_pool=output["work_pool"],
        region=output["region"],
        buckets=Buckets(**{use: output["buckets"][use] for use in Buckets.model_fields}),
        sign_in_file=None if inside else SIGN_IN,  # in the cluster the pods are given them
        store=f"s3://{output['buckets']['dvc']}/store",
        databases=Databases(**{use: databases[use]["host"] for use in Databases.model_fields}),
        cluster=Cluster(
            name=cluster["name"],
            gpu_instance_type=gpu["instance_type"] if gpu else None,
            gpu_max_nodes=gpu["max_nodes"] if gpu else 0,
            gpu_purchase=gpu["purchase"] if gpu else None,
        ),
    )


def forward_commands(output: Mapping[str, Any]) -> list[str]:
    """What to run, and leave running, for the services to be reached from here."""
    commands = []
    for address, port in (
        (output["services"]["mlflow"], MLFLOW_PORT),
        (output["services"]["prefect"], PREFECT_PORT),
    ):
        service = (urlsplit(address).hostname or "").split(".")[0]
        commands.append(f"kubectl -n {output['namespace']} port-forward service/{service} {port}:{port}")
    return commands


def write_sign_in(root: Path, output: Mapping[str, Any], secret: Callable[[str], str]) -> None:
    """Fetch the services' passwords into a file that only its owner reads. `secret`: ARN -> value."""
    arns = output["secrets"]
    words = {
        "MLFLOW_TRACKING_USERNAME": MLFLOW_USER,
        "MLFLOW_TRACKING_PASSWORD": secret(arns["mlflow-admin"]),
        "PREFECT_API_AUTH_STRING": secret(arns["prefect-api"]),
    }
    (root / SIGN_IN).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_secret(root / SIGN_IN, json.dumps(words, indent=1))
