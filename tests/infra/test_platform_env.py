"""The values that overlays take from Terraform."""

import json
import re
import shutil
import subprocess
import sys

import pytest

from tests.infra.rendered import ENVIRONMENTS, KUBERNETES, NAMESPACE, platform_env, terraform


def profile(name: str) -> dict:
    """Of the form of `output "profile"` in infra/terraform/platform/outputs.tf."""
    arn = "arn:aws:secretsmanager:us-east-1:111122223333:secret:"
    return {
        "region": "us-east-1",
        "buckets": {
            use: f"reelforge-{name}-{use}-111122223333" for use in ("raw", "dvc", "mlflow", "checkpoints")
        },
        "images": {
            i: f"111122223333.dkr.ecr.us-east-1.amazonaws.com/reelforge-{name}/{i}" for i in ("cpu", "gpu")
        },
        "cluster": {"name": f"reelforge-{name}"},
        "databases": {
            service: {
                "host": f"reelforge-{name}-{service}.example.us-east-1.rds.amazonaws.com",
                "secret_arn": f"{arn}rds!db-{service}",
            }
            for service in ("mlflow", "prefect")
        },
        "secrets": {
            s: f"{arn}reelforge-{name}/{s}" for s in ("mlflow-admin", "mlflow-cookie", "prefect-api")
        },
        "roles": {
            role: f"arn:aws:iam::111122223333:role/reelforge-{name}-{role}"
            for role in ("stages", "mlflow", "prefect-server", "cluster-autoscaler")
        },
        "lustre": {
            "file_system_id": "fs-00000000000000000",
            "dns_name": "fs-00000000000000000.fsx.us-east-1.amazonaws.com",
            "mount_name": "abcdefgh",
        }
        if name == "prod"
        else None,
    }


def run_platform_env(text: str, *options: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, str(KUBERNETES / "platform_env.py"), "--tag", "0.1.0", *options]
    return subprocess.run(command, input=text, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_the_values_file_comes_from_terraforms_profile(name):
    done = run_platform_env(json.dumps(profile(name)))
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.splitlines()) == sorted(platform_env(name).read_text().splitlines())


def test_the_profile_of_the_tests_has_only_names_that_terraform_gives():
    text, made = terraform(), profile("dev")
    assert all(re.search(rf"^\s+{key}\s+=", text, re.MULTILINE) for key in made)
    assert all(re.search(rf"^\s+{role}\s+= {{", text, re.MULTILINE) for role in made["roles"])
    assert all(re.search(rf"^\s+{secret}\s+=", text, re.MULTILINE) for secret in made["secrets"])
    assert re.search(rf'namespace\s+= "{NAMESPACE}"', text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (json.dumps(profile("dev") | {"roles": None}), "`compute` is false"),
        ("no json", "reelforge infra status --json"),
    ],
)
def test_a_profile_that_lacks_something_says_the_way_out(text, said):
    done = run_platform_env(text)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr


def test_prod_is_not_rendered_without_its_file_system(tmp_path):
    """Only dev's workspace lies on a disk; a gang needs one that all nodes mount."""
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed; it renders the overlays")
    shutil.copytree(KUBERNETES, tmp_path / "kubernetes")
    without = run_platform_env(json.dumps(profile("prod") | {"lustre": None})).stdout
    (tmp_path / "kubernetes/overlays/prod/values/platform.env").write_text(without)
    command = ["kubectl", "kustomize", str(tmp_path / "kubernetes/overlays/prod/platform")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode != 0
    assert "LUSTRE_" in done.stderr
