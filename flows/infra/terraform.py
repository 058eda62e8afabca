"""Terraform as `reelforge infra` runs it: an environment's folder, its variables, its state in the account's bucket."""

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.artifacts import write_json
from components.errors import UserError
from components.runtime import search_path

FOLDER = Path("infra/terraform")
ENVIRONMENTS = ("dev", "prod")
VARIABLES = "platform.auto.tfvars.json"  # read by Terraform without being named
PLAN = ".terraform/reelforge.plan"
INSTALL = (
    "Terraform is not installed; version 1.11 or later is needed: https://developer.hashicorp.com/terraform/install"
    " (macOS: `brew install hashicorp/tap/terraform`; Debian: HashiCorp's apt repository)"
)


class TerraformFailed(UserError):
    """Terraform said no; its own words are on the terminal."""


def program() -> str:
    """Path of `terraform`. Raises `UserError` that says how to get it."""
    found = shutil.which("terraform", path=search_path())
    if found is None:
        raise UserError(INSTALL)
    return found


def state_bucket(account: str) -> str:
    """Name of the bucket that `infra/terraform/state` makes."""
    return f"reelforge-state-{account}"


@dataclass(frozen=True)
class Environment:
    """`dev` or `prod` of a workspace."""

    root: Path
    name: str

    @property
    def folder(self) -> Path:
        return self.root / FOLDER / self.name

    @property
    def variables_file(self) -> Path:
        return self.folder / VARIABLES

    def variables(self) -> dict[str, Any]:
        """What this command has written before; empty at first. Raises `UserError` for a file that is no JSON."""
        if not self.variables_file.is_file():
            return {}
        try:
            return dict(json.loads(self.variables_file.read_text()))
        except ValueError as error:
            raise UserError(f"{self.variables_file} is not JSON: {error}") from None

    def write_variables(self, values: dict[str, Any]) -> None:
        write_json(self.variables_file, values)

    def prepare(self, account: str, region: str) -> None:
        """`terraform init` with this environment's state: after it, plans and applies know what is there."""
        backend = {
            "bucket": state_bucket(account),
            "key": f"{self.name}.tfstate",
            "region": region,
            "encrypt": "true",
            "use_lockfile": "true",
        }
        self.run(
            "init", "-reconfigure", *(f"-backend-config={key}={value}" for key, value in backend.items())
        )

    def plan(self, *options: str) -> None:
        self.run("plan", f"-out={PLAN}", *options)

    def apply_plan(self) -> None:
        """What the last `plan` has shown, and nothing else."""
        self.run("apply", PLAN)

    def output(self, name: str) -> Any:
        """An output. Raises `UserError` where the environment was never brought up."""
        said = self._call("output", "-json", name)
        if said.returncode != 0:
            raise UserError(
                f"{self.name} has no output `{name}`: it is not up, or this clone does not know its state"
                f" (`reelforge infra plan --environment {self.name}` connects it). Terraform said:"
                f" {' '.join(said.stderr.split())[:300]}"
            )
        return json.loads(said.stdout)

    def run(self, command: str, *options: str) -> None:
        """With its words on this terminal. Raises `TerraformFailed`."""
        code = subprocess.run(
            [program(), f"-chdir={self.folder}", command, "-input=false", *options], check=False
        ).returncode
        if code != 0:
            raise TerraformFailed(
                f"`terraform {command}` in {self.folder} ended with {code}; what it did until then is in its state, and"
                " the same command goes on from there"
            )

    def _call(self, command: str, *options: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [program(), f"-chdir={self.folder}", command, "-no-color", *options],
            capture_output=True,
            text=True,
            check=False,
        )


def bring_up_state(root: Path, region: str, *, yes: bool) -> None:
    """Make the account's bucket for states. Terraform asks before it does, unless `yes`."""
    state = Environment(root, "state")
    state.run("init")
    command = [program(), f"-chdir={state.folder}", "apply", f"-var=region={region}"]
    if subprocess.run([*command, *(["-auto-approve"] if yes else [])], check=False).returncode != 0:
        raise TerraformFailed("the bucket for Terraform's state was not made, and nothing else was")
