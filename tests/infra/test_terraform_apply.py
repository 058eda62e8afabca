"""`reelforge infra` as it is typed, against an AWS on loopback: an environment from its plan to its end.

The emulator checks little of what AWS checks, so this shows that the provider takes the graph, in an order that works
both ways, that commands which are killed are gone on with, and what is left behind. It lacks placement groups,
add-ons, FSx and the rotation of managed passwords: those are off here, and the plan assertions cover them. The tests
are steps of one life, in order.
"""

import base64
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
import yaml
from botocore.exceptions import EndpointConnectionError

from components.profile import Profile
from tests.infra.life import REGION, ROOT, Life
from tests.infra.terraform_command import Terraform, copy_of_the_tree

pytestmark = [pytest.mark.infra, pytest.mark.slow, pytest.mark.heavy, pytest.mark.timeout(2400)]
ACCOUNT = "123456789012"
STATE_BUCKET = f"reelforge-state-{ACCOUNT}"
BUCKETS = ("checkpoints", "dvc", "mlflow", "raw")
UP = ("up", "--region", REGION, "--gpu-nodes", "2", "--budget", "900", "--budget-email", "team@example.org")
TEAM = {  # what the emulator lacks
    "addons": [],
    "gpu_nodes": {"placement_group": False},
    "databases": {
        "instance_class": "db.t4g.medium",
        "storage_gib": 20,
        "multi_az": False,
        "deletion_protection": False,
        "backup_days": 7,
    },
}


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory) -> Iterator[str]:
    """A running emulator of an empty account."""
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
        wait_for(Life(log, address))
        yield address
    finally:
        server.terminate()
        server.wait(timeout=30)


def wait_for(life: Life) -> None:
    for _ in range(120):
        try:
            assert life.buckets() == []
            return
        except EndpointConnectionError:
            time.sleep(1)
    pytest.fail("the emulator did not start within two minutes")


@pytest.fixture(scope="module")
def planned(endpoint: str, tmp_path_factory) -> Life:
    """A clone and the plan that was asked for first."""
    folder = tmp_path_factory.mktemp("clone")
    tree = copy_of_the_tree(folder / "infra")
    # skips where no provider can be had
    Terraform(tree / "state").init("-backend=false", "-lockfile=readonly")
    for name in ("components", "flows", "models", "recipes", "params.yaml"):
        (folder / name).symlink_to(ROOT / name)
    (tree / "platform/environments/dev.team.tfvars.json").write_text(json.dumps(TEAM))
    life = Life(folder, endpoint)
    life.said["plan"] = life.run("plan", *UP[1:])
    return life


def test_a_plan_says_what_is_made_and_what_it_costs_and_makes_nothing(planned: Life):
    said = planned.said["plan"]
    assert re.search(r"Plan: \d{2,} to add, 0 to change, 0 to destroy", said)
    assert "module.cluster[0].aws_eks_cluster.this will be created" in said
    # 0.10 for the control plane, 0.045 for a gateway, 0.384 for a machine, 0.065 for each of two databases
    assert "costs at list prices: 0.66 dollars an hour always" in said
    assert "a machine of 8 GPUs 55.04 an hour while it runs (on demand); at most 2 run: 110.08" in said
    assert f"`reelforge infra up` makes {STATE_BUCKET} for Terraform's state first" in said
    assert planned.buckets() == []
    assert planned.client("iam").list_roles()["Roles"] == []


@pytest.fixture(scope="module")
def life(planned: Life) -> Life:
    """`dev`, brought up in three tries: killed with its Terraform, killed alone, and let be."""
    first = planned.start(*UP, "--yes")
    planned.kill_when(first, "aws_iam_role.node: Creation complete", with_terraform=True)
    second = planned.start("up", "--yes")
    planned.kill_when(second, "aws_eks_cluster.this: Creation complete", with_terraform=False)
    planned.said["up"] = planned.run("up", "--yes")
    return planned


def test_an_up_that_was_killed_is_gone_on_with(life: Life):
    assert "is still at work" in life.said["up"]  # the second one's Terraform, which outlived its command
    assert "dev is up" in life.said["up"]
    assert len(life.client("eks").list_clusters()["clusters"]) == 1
    assert not (life.data / "at-work.json").exists()
    assert not (life.data / "cut-off").exists()
    assert not list(life.folder.glob("infra/terraform/*/taken_in.tf"))


def test_a_second_up_changes_nothing(life: Life):
    said = life.run("up", "--yes")
    assert "No changes. Your infrastructure matches the configuration." in said


def test_status_tells_what_is_up(life: Life):
    said = life.run("status")
    assert f"dev in {REGION}, account {ACCOUNT}" in said
    assert "cluster   reelforge-dev" in said
    assert all(f"reelforge-dev-{use}-{ACCOUNT}  ({use}, ours)" in said for use in BUCKETS)
    assert "0 machines run" in said  # no GPU machine waits for work


def test_kubectl_is_given_a_way_in(life: Life):
    """By the AWS command line, whose pins do not fit ours: uv keeps it apart."""
    program = life.folder / "bin" / "aws"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m uv tool run --from awscli==1.46.3 aws "$@"\n')
    program.chmod(0o755)
    life.run("kubeconfig")
    written = yaml.safe_load(life.kubeconfig.read_text())
    made = life.client("eks").describe_cluster(name="reelforge-dev")["cluster"]
    (access,) = written["clusters"]
    assert access["cluster"] == {
        "server": made["endpoint"],
        "certificate-authority-data": made["certificateAuthority"]["data"],
    }
    assert written["current-context"] == written["contexts"][0]["name"]
    signing = written["users"][0]["user"]["exec"]  # kubectl runs this for a token
    said = subprocess.run(
        [signing["command"], *signing["args"]],
        env=life.environment,
        check=True,
        capture_output=True,
        text=True,
    )
    token = json.loads(said.stdout)["status"]["token"].removeprefix("k8s-aws-v1.")
    signed = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)).decode()
    assert "Action=GetCallerIdentity" in signed
    assert "X-Amz-SignedHeaders=host%3Bx-k8s-aws-id" in signed  # for this cluster and no other


def test_the_profile_file_points_at_what_was_made(life: Life):
    said = life.run("profile")
    assert f"tables and latents lie in s3://{life.bucket('dvc')}/store" in said
    written = Profile.load(life.folder / "profile.yaml")
    assert written.buckets.model_dump() == life.profile["buckets"]
    assert written.cluster is not None and written.cluster.gpu_max_nodes == 2
    settings = written.settings(life.folder)
    secrets = life.client("secretsmanager")
    drawn = secrets.get_secret_value(SecretId=life.profile["secrets"]["prefect-api"])["SecretString"]
    assert settings["PREFECT_API_AUTH_STRING"] == drawn
    assert drawn not in (life.folder / "profile.yaml").read_text()


def test_outputs_name_what_was_made(life: Life):
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


def test_the_budget_tells_the_team(life: Life):
    asked = {"AccountId": ACCOUNT, "BudgetName": "reelforge-dev-monthly"}
    made = life.client("budgets").describe_budget(**asked)["Budget"]
    assert float(made["BudgetLimit"]["Amount"]) == 900
    alarms = life.client("budgets").describe_notifications_for_budget(**asked)["Notifications"]
    assert sorted(alarm["Threshold"] for alarm in alarms) == [50, 80, 100, 100]


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


def test_buckets_are_private_encrypted_versioned_and_closed_to_plain_http(life: Life):
    s3 = life.client("s3")
    for name in [STATE_BUCKET, *life.profile["buckets"].values()]:
        assert all(s3.get_public_access_block(Bucket=name)["PublicAccessBlockConfiguration"].values())
        assert s3.get_bucket_versioning(Bucket=name)["Status"] == "Enabled"
        rule = s3.get_bucket_encryption(Bucket=name)["ServerSideEncryptionConfiguration"]["Rules"][0]
        key = rule["ApplyServerSideEncryptionByDefault"]["KMSMasterKeyID"]
        assert (key == life.profile["kms_key_arn"]) == (name != STATE_BUCKET)
        refused = {
            json.dumps(statement["Condition"])
            for statement in json.loads(s3.get_bucket_policy(Bucket=name)["Policy"])["Statement"]
            if (statement["Effect"], statement["Principal"], statement["Action"]) == ("Deny", "*", "s3:*")
        }
        assert '{"Bool": {"aws:SecureTransport": "false"}}' in refused


def test_passwords_are_drawn_and_not_in_the_state(life: Life):
    secrets = life.client("secretsmanager")
    drawn = [
        secrets.get_secret_value(SecretId=arn)["SecretString"] for arn in life.profile["secrets"].values()
    ]
    state = life.client("s3").get_object(Bucket=STATE_BUCKET, Key="dev.tfstate")["Body"].read().decode()
    assert len(set(drawn)) == 3
    assert all(len(password) >= 64 and password not in state for password in drawn)


def test_two_people_cannot_apply_at_once(life: Life):
    """The lock of a colleague's machine is never given back for them."""
    s3 = life.client("s3")
    info = {
        "ID": "1",
        "Operation": "apply",
        "Who": "colleague@elsewhere",
        "Version": "1.11.4",
        "Created": "2026-01-01T00:00:00Z",
    }
    s3.put_object(Bucket=STATE_BUCKET, Key="dev.tfstate.tflock", Body=json.dumps(info).encode())
    try:
        said = life.run("plan", code=2)
    finally:
        s3.delete_object(Bucket=STATE_BUCKET, Key="dev.tfstate.tflock")
    assert "Error acquiring the state lock" in said
    assert "colleague" in said


def test_down_refuses_a_bucket_with_data_that_is_not_named(life: Life):
    life.client("s3").put_object(Bucket=life.bucket("raw"), Key="film.mp4", Body=b"film")
    said = life.run("down", "--buckets", "--yes", code=2)
    assert f"--delete-bucket {life.bucket('raw')}" in said
    assert life.client("eks").list_clusters()["clusters"] == ["reelforge-dev"]  # nothing was touched


def test_down_keeps_buckets_and_snapshots(life: Life):
    said = life.run("down", "--yes")
    assert "costs: what lies in the buckets, and nothing by the hour" in said
    assert life.buckets() == sorted([STATE_BUCKET, *life.profile["buckets"].values()])
    assert life.client("eks").list_clusters()["clusters"] == []
    assert life.client("rds").describe_db_instances()["DBInstances"] == []
    kept = life.client("rds").describe_db_snapshots()["DBSnapshots"]
    assert {snapshot["DBInstanceIdentifier"] for snapshot in kept} == {
        "reelforge-dev-mlflow",
        "reelforge-dev-prefect",
    }
    assert "cluster   down" in life.run("status")


def test_nothing_is_left_but_what_was_told(life: Life):
    """After the last `down` with its bucket named: the state's bucket, snapshots, and keys that AWS keeps 30 days."""
    life.run("down", "--buckets", "--delete-bucket", "raw", "--yes")
    assert life.buckets() == [STATE_BUCKET]
    assert life.client("iam").list_roles()["Roles"] == []
    assert life.client("ecr").describe_repositories()["repositories"] == []
    assert life.client("secretsmanager").list_secrets()["SecretList"] == []
    assert life.client("budgets").describe_budgets(AccountId=ACCOUNT)["Budgets"] == []
    assert life.client("logs").describe_log_groups()["logGroups"] == []
    told = re.search(r"known to no state, delete by hand: (.*)", life.said["up"])
    left = set(told[1].split(", ")) if told else set()
    ec2 = life.client("ec2")
    networks = {vpc["VpcId"] for vpc in ec2.describe_vpcs()["Vpcs"] if not vpc["IsDefault"]}
    addresses = {address["AllocationId"] for address in ec2.describe_addresses()["Addresses"]}
    assert networks | addresses <= left
    key = life.client("kms").describe_key(KeyId=life.profile["kms_key_arn"])["KeyMetadata"]
    assert key["KeyState"] == "PendingDeletion"
