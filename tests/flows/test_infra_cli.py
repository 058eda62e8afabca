"""`reelforge infra` refuses what cannot work before anything is made; AWS is an emulator on loopback."""

import json
import re
import shutil
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from botocore.stub import Stubber
from moto.server import ThreadedMotoServer
from pydantic import ValidationError

from components.errors import UserError
from components.profile import FILE, Profile
from flows.infra import aws
from flows.infra.checks import bucket_names, check, check_deletion
from flows.infra.needs import Needs
from flows.infra.platform_profile import profile_of
from flows.infra.terraform import FOLDER, Environment, state_bucket
from flows.infra.wish import Wish, variables
from tests.workspace import ROOT, reelforge

REGION = "us-west-2"
ZONES = ["us-west-2a", "us-west-2b"]
EMAIL = ("team@example.org",)
GOOD = Wish(region=REGION, budget=900.0, budget_emails=EMAIL)


@pytest.fixture(scope="module")
def emulator() -> Iterator[str]:
    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def cloud(emulator, monkeypatch, tmp_path) -> Iterator[str]:
    """An empty account, and credentials for it."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_ENDPOINT_URL", emulator)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    yield emulator
    urllib.request.urlopen(urllib.request.Request(f"{emulator}/moto-api/reset", method="POST"), timeout=5)


@pytest.fixture
def clone(tmp_path) -> Path:
    """A folder with the environments, in which Terraform was never run."""
    left = shutil.ignore_patterns(".terraform", "*.tfstate*", "*.tfvars.json")
    shutil.copytree(ROOT / FOLDER, tmp_path / FOLDER, ignore=left)
    for package in ("components", "flows", "models", "recipes"):
        (tmp_path / package).symlink_to(ROOT / package)
    return tmp_path


def bucket(name: str, **session) -> None:
    client = boto3.client("s3", region_name=REGION, **session)
    client.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        (Wish(budget=0), "--region"),
        (Wish(region=REGION), "--budget"),
        (Wish(region=REGION, budget=900), "--budget-email"),
        (Wish(region=REGION, budget=0, gpu_nodes=0), "0 GPU nodes"),
        (Wish(region=REGION, budget=0, gpu_nodes=-2), "-2 GPU nodes"),
        (Wish(region=REGION, budget=0, gpu_nodes=1, gpu_zone="us-west-2d"), "--gpu-zone us-west-2d"),
        (Wish(region=REGION, budget=0, gpu_nodes=1, instance_type="m5.large"), "--instance-type m5.large"),
        (Wish(region=REGION, budget=0, gpu_nodes=1, purchase="rent"), "--purchase rent"),
        (Wish(region=REGION, budget=0, gpu_nodes=1, purchase="capacity-block"), "--reservation"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_wish_that_cannot_be_is_refused_with_its_option(wish, said):
    with pytest.raises(UserError, match=re.escape(said)):
        variables(wish, {})


def test_what_was_chosen_before_stays_until_it_is_changed():
    first = variables(Wish(region=REGION, budget=900, budget_emails=EMAIL, gpu_nodes=2, purchase="spot"), {})
    again = variables(Wish(gpu_nodes=4), first)
    assert again == {**first, "gpu_nodes": {**first["gpu_nodes"], "max": 4}}
    assert again["gpu_nodes"]["purchase"] == "spot"


def test_a_recipes_needs_become_machines_and_a_shared_file_system():
    needs = Needs("a", gpus=12, gpu="H100", hours=3, dollars=72, shared_gib=2_500)
    values = variables(Wish(region=REGION, budget=0, needs=needs), {})
    assert values["gpu_nodes"]["max"] == 2  # machines have eight GPUs
    assert values["gpu_nodes"]["instance_type"] == "p5.48xlarge"
    assert values["lustre"] == {"storage_gib": 4_800}  # FSx: multiples of 2400
    alone = Needs("a", gpus=8, gpu="H200", hours=3, dollars=72, shared_gib=9_000)
    values = variables(Wish(region=REGION, budget=0, needs=alone), {})
    assert values["lustre"] is None
    assert values["gpu_nodes"]["instance_type"] == "p5e.48xlarge"


def test_terraform_declares_every_variable_that_is_written():
    declared = (ROOT / FOLDER / "platform/variables.tf").read_text()
    values = variables(Wish(region=REGION, budget=900, budget_emails=EMAIL, gpu_nodes=2), {})
    for name in values:
        assert f'variable "{name}"' in declared
    block = declared.split('variable "gpu_nodes"')[1].split("\nvariable ")[0]
    for name in values["gpu_nodes"]:
        assert re.search(rf"^    {name} +=", block, re.MULTILINE), name
    block = declared.split('variable "budget"')[1].split("\nvariable ")[0]
    assert all(f"    {name} " in block for name in values["budget"])


def test_an_account_with_room_is_let_through(cloud):
    said: list[str] = []
    values = variables(Wish(region=REGION, budget=0, gpu_nodes=2), {})
    assert check("dev", values, said.append) == "123456789012"  # the emulator's account
    assert any("zones us-west-2a, us-west-2b are open" in line for line in said)
    assert any("5 to be made" in line for line in said)
    assert any("not checked" in line for line in said)  # the emulator knows no quotas


def test_a_region_that_is_none_is_named_with_its_neighbours():
    with pytest.raises(UserError, match=r"us-west-9.*did you mean us-west-2"):
        aws.session("us-west-9")


def test_a_zone_that_is_none_is_named(cloud):
    values = variables(Wish(region=REGION, zones=("us-west-2a", "us-west-2z"), budget=0), {})
    with pytest.raises(UserError, match=r"us-west-2z.*us-west-2a"):
        check("dev", values, lambda line: None)


def test_missing_credentials_are_told_with_the_ways_to_log_in(cloud, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    with pytest.raises(UserError, match=r"no credentials.*aws sso login"):
        check("dev", variables(GOOD, {}), lambda line: None)


def test_a_bucket_name_of_another_account_is_refused(cloud):
    other = boto3.client("sts", region_name=REGION).assume_role(
        RoleArn="arn:aws:iam::222222222222:role/other", RoleSessionName="other"
    )["Credentials"]
    taken = bucket_names("dev", "123456789012")["raw"]
    bucket(
        taken,
        aws_access_key_id=other["AccessKeyId"],
        aws_secret_access_key=other["SecretAccessKey"],
        aws_session_token=other["SessionToken"],
    )
    with pytest.raises(UserError, match=rf"taken by another account or region: {taken}"):
        check("dev", variables(GOOD, {}), lambda line: None)


@pytest.mark.parametrize(("vcpus", "enough"), [(384.0, True), (383.0, False)])
def test_the_quota_has_to_hold_all_machines(vcpus, enough, monkeypatch):
    session = boto3.session.Session(region_name=REGION, aws_access_key_id="a", aws_secret_access_key="b")
    quotas = session.client("service-quotas")
    stubber = Stubber(quotas)  # AWS's answer; the emulator has none
    quota = {"QuotaName": aws.QUOTAS["on-demand"], "Value": vcpus}
    stubber.add_response("list_service_quotas", {"Quotas": [{"QuotaName": "other", "Value": 9.0}, quota]})
    stubber.activate()
    monkeypatch.setattr(session, "client", lambda *_args, **_settings: quotas)
    two = {"instance_type": "p5.48xlarge", "nodes": 2, "purchase": "on-demand"}  # of 192 vCPUs each
    if enough:
        assert "384 needed" in aws.check_quota(session, **two)
    else:
        with pytest.raises(UserError, match=r"need 384 vCPUs.*has 383"):
            aws.check_quota(session, **two)


def test_buckets_with_data_go_only_when_each_is_named(cloud):
    names = bucket_names("dev", "123456789012")
    for name in names.values():
        bucket(name)
    client = boto3.client("s3", region_name=REGION)
    client.put_object(Bucket=names["raw"], Key="a.mp4", Body=b"1")
    client.put_bucket_versioning(Bucket=names["dvc"], VersioningConfiguration={"Status": "Enabled"})
    client.put_object(Bucket=names["dvc"], Key="b", Body=b"1")
    client.delete_object(Bucket=names["dvc"], Key="b")  # an older version is left, which can be brought back
    made = aws.session(REGION)
    with pytest.raises(UserError, match="nothing was deleted") as refused:
        check_deletion(made, names, set())
    assert names["raw"] in str(refused.value) and names["dvc"] in str(refused.value)
    assert names["mlflow"] not in str(refused.value)
    with pytest.raises(UserError, match=names["dvc"]):
        check_deletion(made, names, {"raw"})
    with pytest.raises(UserError, match="rwa"):
        check_deletion(made, names, {"rwa"})
    assert check_deletion(made, names, {"raw", names["dvc"]}) == ["raw", "dvc"]


def test_the_command_line_refuses_before_it_writes(clone, cloud):
    result = reelforge(
        clone, "infra", "plan", "--region", "us-west-9", "--budget", "0", AWS_ENDPOINT_URL=cloud
    )
    assert result.returncode == 2
    assert "us-west-9" in result.stderr
    assert not Environment(clone, "dev").variables_file.exists()
    down = reelforge(clone, "infra", "down", "--environment", "dev", "--yes")
    assert down.returncode == 2
    assert "not brought up" in " ".join(down.stderr.split())


def test_down_refuses_on_the_command_line_too(clone, cloud):
    name = bucket_names("dev", "123456789012")["checkpoints"]
    bucket(name)
    boto3.client("s3", region_name=REGION).put_object(Bucket=name, Key="step", Body=b"1")
    Environment(clone, "dev").write_variables(variables(GOOD, {}))
    before = Environment(clone, "dev").variables_file.read_text()
    result = reelforge(clone, "infra", "down", "--buckets", "--yes", PATH=path_with_terraform(clone))
    assert result.returncode == 2
    assert f"--delete-bucket {name}" in " ".join(result.stderr.split())
    assert Environment(clone, "dev").variables_file.read_text() == before


def path_with_terraform(folder: Path) -> str:
    """A `terraform` that must never be run."""
    program = folder / "bin" / "terraform"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\nexit 99\n")
    program.chmod(0o755)
    return str(program.parent)


def test_without_terraform_it_says_how_to_get_it(clone, cloud):
    bucket(state_bucket("123456789012"))
    result = reelforge(clone, "infra", "plan", "--region", REGION, "--budget", "0", PATH="/nowhere")
    assert result.returncode == 2
    assert "developer.hashicorp.com/terraform/install" in result.stderr


OUTPUT = {
    "environment": "dev",
    "region": REGION,
    "account_id": "123456789012",
    "namespace": "reelforge",
    "work_pool": "reelforge-dev",
    "buckets": bucket_names("dev", "123456789012"),
    "cluster": {"name": "reelforge-dev", "endpoint": "https://example.org"},
    "services": {
        "mlflow": "http://mlflow.reelforge.svc.cluster.local:5000",
        "prefect": "http://prefect-server.reelforge.svc.cluster.local:4200/api",
    },
    "databases": {
        name: {
            "host": f"reelforge-dev-{name}.abc.us-west-2.rds.amazonaws.com",
            "port": 5432,
            "database": name,
        }
        for name in ("mlflow", "prefect")
    },
    "gpu": None,
}


def test_terraforms_output_becomes_a_profile_that_survives_its_file(tmp_path):
    inside = profile_of(OUTPUT, inside=True)
    inside.write(tmp_path / FILE)
    assert Profile.load(tmp_path / FILE) == inside
    settings = inside.settings(tmp_path)
    assert settings["MLFLOW_TRACKING_URI"] == OUTPUT["services"]["mlflow"]
    assert settings["PREFECT_API_URL"] == OUTPUT["services"]["prefect"]
    assert settings["AWS_DEFAULT_REGION"] == REGION
    assert "AWS_ENDPOINT_URL" not in settings  # AWS itself
    outside = profile_of(OUTPUT, inside=False)
    assert outside.mlflow_uri.startswith("http://127.0.0.1")
    assert outside.buckets == inside.buckets


def test_terraform_has_every_field_that_the_profile_takes():
    text = (ROOT / FOLDER / "platform/outputs.tf").read_text()
    for name in OUTPUT:
        assert re.search(rf"^    {name} +=", text, re.MULTILINE), name


def test_an_environment_without_its_cluster_has_no_profile():
    with pytest.raises(UserError, match="infra up"):
        profile_of({**OUTPUT, "cluster": {"name": None}, "databases": None}, inside=True)


def test_a_profile_that_is_none_is_refused_with_its_field(tmp_path):
    profile_of(OUTPUT, inside=True).write(tmp_path / FILE)
    (tmp_path / FILE).write_text((tmp_path / FILE).read_text().replace("mlflow_uri", "mlflow_url"))
    with pytest.raises(UserError, match="mlflow_url"):
        Profile.load(tmp_path / FILE)
    with pytest.raises(ValidationError):
        Profile.model_validate({"made_by": "somebody"})


def test_settings_of_the_environment_win_over_the_profile(tmp_path, monkeypatch):
    from components import runtime

    profile_of(OUTPUT, inside=True).write(tmp_path / FILE)
    for name in (
        "MLFLOW_TRACKING_URI",
        "PREFECT_DEFAULT_WORK_POOL_NAME",
        "AWS_DEFAULT_REGION",
        "REELFORGE_PROFILE",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:1/api")
    profile = runtime.use_profile(tmp_path)
    assert profile is not None
    assert runtime.tracking_uri(tmp_path) == OUTPUT["services"]["mlflow"]
    assert runtime.profile_overrides(profile.settings(tmp_path)) == {
        "PREFECT_API_URL": "http://127.0.0.1:1/api"
    }
    for name in ("MLFLOW_TRACKING_URI", "PREFECT_DEFAULT_WORK_POOL_NAME", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name)  # what it has set goes, too
    monkeypatch.setenv("REELFORGE_PROFILE", "none")
    assert runtime.use_profile(tmp_path) is None
    assert runtime.tracking_uri(tmp_path).startswith("sqlite:///")


def test_bucket_names_are_those_of_terraform():
    text = (ROOT / FOLDER / "modules/storage/main.tf").read_text()
    assert '"${var.name}-${each.key}-${local.account_id}"' in text
    assert '"reelforge-${var.environment}"' in (ROOT / FOLDER / "platform/main.tf").read_text()
    assert bucket_names("prod", "1")["raw"] == "reelforge-prod-raw-1"
    assert json.dumps(state_bucket("1")) == '"reelforge-state-1"'
