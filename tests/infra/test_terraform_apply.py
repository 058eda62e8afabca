"""The dev root applied to an AWS on loopback and destroyed again: what the provider makes of our code.

The emulator checks little of what AWS checks, so this shows that the provider takes the graph, in an order that works
both ways, and what is left behind. It lacks placement groups, add-ons, FSx, budgets with alarms and the rotation of
managed passwords: those are off here, and the plan assertions cover them. The tests are steps of one life, in order.
"""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from tests.infra.terraform_command import Terraform, copy_of_the_tree

pytestmark = [pytest.mark.infra, pytest.mark.slow, pytest.mark.heavy, pytest.mark.timeout(900)]
ROOT = Path(__file__).parents[2]
REGION = "us-west-2"
STATE_BUCKET = "reelforge-state"
BUCKETS = ("checkpoints", "dvc", "mlflow", "raw")


@dataclass(frozen=True)
class Life:
    """An environment from its first apply to its end."""

    terraform: Terraform
    endpoint: str
    profile: dict[str, Any]

    def client(self, service: str) -> Any:
        return client(self.endpoint, service)

    def bucket(self, use: str) -> str:
        return str(self.profile["buckets"][use])


def client(endpoint: str, service: str) -> Any:
    keys = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing"}
    return boto3.client(service, endpoint_url=endpoint, region_name=REGION, **keys)


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory) -> Iterator[str]:
    """A running emulator, empty but for the bucket of the state."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = tmp_path_factory.mktemp("emulator") / "log"
    with log.open("w") as written:
        server = subprocess.Popen(
            [sys.executable, "-m", "tests.infra.aws_emulator", str(port)],
            cwd=ROOT,
            env={**os.environ, "MOTO_IAM_LOAD_MANAGED_POLICIES": "true"},
            stdout=written,
            stderr=written,
        )
    try:
        address = f"http://127.0.0.1:{port}"
        make_state_bucket(address)
        yield address
    finally:
        server.terminate()
        server.wait(timeout=30)


def make_state_bucket(endpoint: str) -> None:
    for _ in range(60):
        try:
            client(endpoint, "s3").create_bucket(
                Bucket=STATE_BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION}
            )
            return
        except EndpointConnectionError:
            time.sleep(1)
    pytest.fail("the emulator did not start within a minute")


def write_settings(folder: Path, endpoint: str) -> None:
    """What a team sets, and what the emulator lacks."""
    settings = {
        "region": REGION,
        "zones": [f"{REGION}a", f"{REGION}b"],
        "gpu_nodes": {"max": 2, "zone": f"{REGION}a", "placement_group": False},
        "addons": [],
        "databases": {
            "instance_class": "db.t4g.medium",
            "storage_gib": 20,
            "multi_az": False,
            "deletion_protection": False,
            "backup_days": 7,
        },
        "budget": None,
        "aws_endpoint": endpoint,
    }
    (folder / "team.auto.tfvars.json").write_text(json.dumps(settings))
    (folder / "backend.hcl").write_text(
        f'bucket = "{STATE_BUCKET}"\nkey = "dev.tfstate"\nregion = "{REGION}"\nuse_lockfile = true\n'
        "use_path_style = true\nskip_credentials_validation = true\nskip_metadata_api_check = true\n"
        f'endpoints = {{ s3 = "{endpoint}", sts = "{endpoint}", iam = "{endpoint}" }}\n'
    )


@pytest.fixture(scope="module")
def life(endpoint: str, tmp_path_factory) -> Life:
    """`dev`, applied."""
    terraform = Terraform(copy_of_the_tree(tmp_path_factory.mktemp("infra")) / "dev")
    write_settings(terraform.folder, endpoint)
    terraform.init("-backend-config=backend.hcl", "-lockfile=readonly")
    terraform.run("apply", "-auto-approve", "-input=false", seconds=480)
    return Life(terraform, endpoint, json.loads(terraform.run("output", "-json", "profile")))


def test_the_profile_names_what_was_made(life: Life):
    assert set(life.profile["buckets"]) == set(BUCKETS)
    cluster = life.client("eks").describe_cluster(name=life.profile["cluster"]["name"])["cluster"]
    assert cluster["endpoint"] == life.profile["cluster"]["endpoint"]
    assert not cluster["resourcesVpcConfig"]["endpointPublicAccess"]
    for service, database in life.profile["databases"].items():
        made = life.client("rds").describe_db_instances(DBInstanceIdentifier=f"reelforge-dev-{service}")
        assert made["DBInstances"][0]["Endpoint"]["Address"] == database["host"]
        assert not made["DBInstances"][0]["PubliclyAccessible"]
        assert made["DBInstances"][0]["StorageEncrypted"]
    for image, address in life.profile["images"].items():
        made = life.client("ecr").describe_repositories(repositoryNames=[f"reelforge-dev/{image}"])
        assert made["repositories"][0]["repositoryUri"] == address
    for role, arn in life.profile["roles"].items():
        assert life.client("iam").get_role(RoleName=f"reelforge-dev-{role}")["Role"]["Arn"] == arn


def test_gpu_machines_have_32_efa_cards_and_none_is_started(life: Life):
    group = life.client("eks").describe_nodegroup(clusterName="reelforge-dev", nodegroupName="gpu")[
        "nodegroup"
    ]
    assert group["scalingConfig"] == {"minSize": 0, "desiredSize": 0, "maxSize": 2}
    template = life.client("ec2").describe_launch_template_versions(
        LaunchTemplateId=group["launchTemplate"]["id"], Versions=["$Latest"]
    )["LaunchTemplateVersions"][0]["LaunchTemplateData"]
    cards = template["NetworkInterfaces"]
    assert sorted(card["NetworkCardIndex"] for card in cards) == list(range(32))
    assert {card["InterfaceType"] for card in cards} == {"efa", "efa-only"}


def test_buckets_are_private_encrypted_and_versioned(life: Life):
    s3 = life.client("s3")
    for use in BUCKETS:
        name = life.bucket(use)
        assert all(s3.get_public_access_block(Bucket=name)["PublicAccessBlockConfiguration"].values())
        assert s3.get_bucket_versioning(Bucket=name)["Status"] == "Enabled"
        rule = s3.get_bucket_encryption(Bucket=name)["ServerSideEncryptionConfiguration"]["Rules"][0]
        assert rule["ApplyServerSideEncryptionByDefault"]["KMSMasterKeyID"] == life.profile["kms_key_arn"]
        with pytest.raises(
            ClientError, match=r"Forbidden|AccessDenied"
        ):  # the policy: the emulator has no TLS
            s3.put_object(Bucket=name, Key="plain", Body=b"text")


def test_passwords_are_drawn_and_not_in_the_state(life: Life):
    secrets = life.client("secretsmanager")
    drawn = [
        secrets.get_secret_value(SecretId=arn)["SecretString"] for arn in life.profile["secrets"].values()
    ]
    state = life.client("s3").get_object(Bucket=STATE_BUCKET, Key="dev.tfstate")["Body"].read().decode()
    assert len(set(drawn)) == 3
    assert all(len(password) >= 64 and password not in state for password in drawn)
    assert secrets.get_secret_value(SecretId=life.profile["secrets"]["prefect-api"])[
        "SecretString"
    ].startswith("reelforge:")


def test_two_people_cannot_apply_at_once(life: Life):
    s3 = life.client("s3")
    info = {
        "ID": "1",
        "Operation": "apply",
        "Who": "colleague",
        "Version": "1.11.4",
        "Created": "2026-01-01T00:00:00Z",
    }
    s3.put_object(Bucket=STATE_BUCKET, Key="dev.tfstate.tflock", Body=json.dumps(info).encode())
    try:
        done = life.terraform.ask("plan", "-input=false", "-refresh=false")
    finally:
        s3.delete_object(Bucket=STATE_BUCKET, Key="dev.tfstate.tflock")
    assert done.returncode == 1
    assert "Error acquiring the state lock" in done.stdout
    assert "colleague" in done.stdout


def fill(life: Life, use: str) -> None:
    """Put a video into a bucket, whose policy wants TLS, which the emulator does not speak."""
    s3 = life.client("s3")
    policy = s3.get_bucket_policy(Bucket=life.bucket(use))["Policy"]
    s3.delete_bucket_policy(Bucket=life.bucket(use))
    s3.put_object(Bucket=life.bucket(use), Key="film.mp4", Body=b"film")
    s3.put_bucket_policy(Bucket=life.bucket(use), Policy=policy)


def test_taking_compute_down_keeps_the_buckets(life: Life):
    fill(life, "raw")
    life.terraform.run("apply", "-auto-approve", "-input=false", "-var=compute=false", seconds=480)
    profile = json.loads(life.terraform.run("output", "-json", "profile"))
    assert profile["buckets"] == life.profile["buckets"]
    assert profile["kms_key_arn"] == life.profile["kms_key_arn"]
    assert profile["cluster"]["name"] is None
    assert life.client("eks").list_clusters()["clusters"] == []
    assert life.client("rds").describe_db_instances()["DBInstances"] == []
    kept = life.client("rds").describe_db_snapshots()["DBSnapshots"]
    assert {snapshot["DBInstanceIdentifier"] for snapshot in kept} == {
        "reelforge-dev-mlflow",
        "reelforge-dev-prefect",
    }


def test_a_bucket_with_data_goes_only_when_named(life: Life):
    done = life.terraform.ask("destroy", "-auto-approve", "-input=false", "-var=compute=false", seconds=300)
    assert done.returncode == 1
    assert "BucketNotEmpty" in done.stdout
    key = life.client("kms").describe_key(KeyId=life.profile["kms_key_arn"])["KeyMetadata"]
    assert key["KeyState"] == "Enabled"  # and with it the data
    names = [bucket["Name"] for bucket in life.client("s3").list_buckets()["Buckets"]]
    assert sorted(names) == sorted([STATE_BUCKET, life.bucket("raw")])

    named = ["-auto-approve", "-input=false", "-var=compute=false", '-var=destroy_buckets=["raw"]']
    bucket = 'module.stack.module.storage.module.bucket["raw"].aws_s3_bucket.this'
    life.terraform.run("apply", *named, f"-target={bucket}", seconds=300)
    life.terraform.run("destroy", *named, seconds=300)
    names = [bucket["Name"] for bucket in life.client("s3").list_buckets()["Buckets"]]
    assert names == [STATE_BUCKET]
    key = life.client("kms").describe_key(KeyId=life.profile["kms_key_arn"])["KeyMetadata"]
    assert key["KeyState"] == "PendingDeletion"
