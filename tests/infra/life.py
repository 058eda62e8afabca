"""An environment as somebody lives with it: a clone, its AWS, and the commands that are typed there."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import boto3
import psutil

from tests.infra.terraform_command import plugin_folder

ROOT = Path(__file__).parents[2]
REGION = "us-west-2"


@dataclass
class Life:
    """A clone in which the command line is used, and the AWS that it speaks to."""

    folder: Path
    endpoint: str
    said: dict[str, str] = field(default_factory=dict)  # by step

    def client(self, service: str) -> Any:
        keys = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing"}
        return boto3.client(service, endpoint_url=self.endpoint, region_name=REGION, **keys)

    def buckets(self) -> list[str]:
        return sorted(bucket["Name"] for bucket in self.client("s3").list_buckets()["Buckets"])

    @property
    def words(self) -> Path:
        """What the last command has said."""
        return self.folder / "said.txt"

    @property
    def data(self) -> Path:
        return self.folder / "infra/terraform/platform/.terraform/dev"

    @property
    def environment(self) -> dict[str, str]:
        """Of whoever has this AWS for theirs."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "TF_"))}
        return kept | {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_EC2_METADATA_DISABLED": "true",
            "KUBECONFIG": str(self.kubeconfig),
            "PATH": f"{self.folder / 'bin'}{os.pathsep}{kept['PATH']}",
        }

    @property
    def kubeconfig(self) -> Path:
        return self.folder / "kubeconfig"

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        """A command, whose words go to a file: a pipe that nobody reads would stop it."""
        where = f"-plugin-dir={mirror} " if (mirror := plugin_folder()) else ""
        if arguments[0] != "plan" or self.buckets():  # the very first plan has no state in a bucket
            where += "-backend-config=use_path_style=true "
        settings = {
            "PYTHONPATH": str(ROOT),
            "TF_CLI_CONFIG_FILE": os.devnull,
            "TF_VAR_aws_endpoint": self.endpoint,
            "TF_CLI_ARGS_init": f"{where}-lockfile=readonly",
        }
        with self.words.open("w") as written:
            return subprocess.Popen(
                [sys.executable, "-m", "flows.cli.app", "infra", *arguments],
                cwd=self.folder,
                env=self.environment | settings,
                stdout=written,
                stderr=subprocess.STDOUT,
                text=True,
            )

    def run(self, *arguments: str, code: int = 0) -> str:
        process = self.start(*arguments)
        process.wait(timeout=1800)
        said = self.words.read_text()
        assert process.returncode == code, said[-6000:]
        return said

    def kill_when(self, process: "subprocess.Popen[str]", written: str, *, with_terraform: bool) -> None:
        """SIGKILL to the command, once its Terraform's apply has written that."""
        log, record = self.data / "apply.log", self.data / "at-work.json"
        began = time.time()
        while not (log.exists() and log.stat().st_mtime > began and written in log.read_text()):
            assert process.poll() is None, self.words.read_text()[-6000:]
            assert time.time() < began + 1200
            time.sleep(0.3)
        terraform = psutil.Process(json.loads(record.read_text())["pid"])
        process.send_signal(signal.SIGKILL)
        process.wait()
        if with_terraform:
            terraform.kill()
            psutil.wait_procs([terraform], timeout=10)
        else:
            assert terraform.is_running()  # it ends what it has begun

    @cached_property
    def profile(self) -> dict[str, Any]:
        return dict(json.loads(self.run("status", "--json")))

    def bucket(self, use: str) -> str:
        return str(self.profile["buckets"][use])
