"""Terraform as the tests run it: on a copy of the tree, offline where the provider lies in a plug-in folder."""

import os
import shutil
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "infra" / "terraform"
NO_PROVIDER = ("could not connect to registry", "Failed to query available provider packages")


def plugin_folder() -> str | None:
    """Where provider plug-ins lie: `TF_PLUGIN_MIRROR`, or a folder under /opt or ~/.terraform.d that has them."""
    if named := os.environ.get("TF_PLUGIN_MIRROR"):
        return named
    usual = [
        *Path("/opt").glob("*/registry.terraform.io"),
        *Path.home().glob(".terraform.d/*/registry.terraform.io"),
    ]
    return str(usual[0].parent) if usual else None


@dataclass(frozen=True)
class Terraform:
    """Terraform in one folder of a copy of infra/terraform."""

    folder: Path

    def ask(self, *arguments: str, seconds: int = 120) -> subprocess.CompletedProcess[str]:
        """Run to its end; after `seconds` it and its providers are killed and `TimeoutExpired` raised."""
        environment = {
            **os.environ,
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_EC2_METADATA_DISABLED": "true",
            "CHECKPOINT_DISABLE": "1",
            "TF_CLI_CONFIG_FILE": os.devnull,
            "TF_IN_AUTOMATION": "1",
        }
        with subprocess.Popen(
            ["terraform", arguments[0], "-no-color", *arguments[1:]],
            cwd=self.folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        ) as process:
            try:
                said, _ = process.communicate(timeout=seconds)
            except BaseException:  # too slow, or the test itself was stopped
                os.killpg(process.pid, signal.SIGKILL)
                raise
        return subprocess.CompletedProcess(arguments, process.returncode, said)

    def run(self, *arguments: str, seconds: int = 120) -> str:
        """What it says. Fails the test where it does not end well."""
        done = self.ask(*arguments, seconds=seconds)
        assert done.returncode == 0, done.stdout[-4000:]
        return done.stdout

    def init(self, *options: str) -> None:
        """Skips the test where the provider can be had neither from a folder nor from the registry."""
        mirror = plugin_folder()
        where = [f"-plugin-dir={mirror}"] if mirror else []
        done = self.ask("init", "-input=false", *where, *options)
        if any(reason in done.stdout for reason in NO_PROVIDER):
            pytest.skip("the AWS provider is out of reach: name its folder in TF_PLUGIN_MIRROR")
        assert done.returncode == 0, done.stdout[-4000:]


def copy_of_the_tree(folder: Path) -> Path:
    """infra/terraform without what somebody's own runs have left in it. Skips where there is no Terraform."""
    if shutil.which("terraform") is None:
        pytest.skip("terraform is not installed")
    left = shutil.ignore_patterns(".terraform", "*.tfstate*", "*.backend.hcl", "*.tfvars.json", "*.plan")
    return Path(shutil.copytree(SOURCE, folder / "terraform", ignore=left))
