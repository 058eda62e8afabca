"""Terraform as `reelforge infra` runs it: one root for all environments, each with values and a state of its own."""

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.artifacts import write_json
from components.errors import UserError
from components.runtime import search_path, terraform_environment
from flows.infra.work import Work

FOLDER = Path("infra/terraform")
ENVIRONMENTS = ("dev", "prod")
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
class Root:
    """A folder of Terraform code and a folder for what Terraform keeps beside it (`TF_DATA_DIR`)."""

    folder: Path
    data: Path

    @property
    def work(self) -> Work:
        return Work(self.data)

    @property
    def _plan(self) -> str:
        return str(self.data / "reelforge.plan")

    def init(self, *options: str) -> None:
        """Get providers and state ready, which can take minutes the first time. Raises `TerraformFailed`."""
        done = self.ask("init", "-no-color", "-input=false", "-reconfigure", *options)
        if done.returncode != 0:
            raise TerraformFailed(f"`terraform init` in {self.folder}:\n{done.stderr.strip()}")

    def plan(self, *options: str) -> None:
        self.run("plan", f"-out={self._plan}", *options)

    def apply_plan(self) -> None:
        """What the last `plan` has shown, and nothing else."""
        self.run("apply", self._plan)

    def planned(self) -> dict[str, Any]:
        """The last plan, in Terraform's JSON."""
        said = self.ask("show", "-json", self._plan)
        if said.returncode != 0:
            raise TerraformFailed(f"`terraform show` in {self.folder}: {' '.join(said.stderr.split())}")
        return dict(json.loads(said.stdout))

    def run(self, command: str, *options: str) -> None:
        """With its words on this terminal. Raises `TerraformFailed`."""
        code = self.work.run(
            command, (*self._begin(), command, "-input=false", *options), terraform_environment(self.data)
        )
        if code != 0:
            raise TerraformFailed(
                f"`terraform {command}` in {self.folder} ended with {code}; what it did until then is in its state, and"
                " the same command goes on from there"
            )

    def ask(self, command: str, *options: str) -> subprocess.CompletedProcess[str]:
        """What it answers, which is not shown."""
        return subprocess.run(
            [*self._begin(), command, *options],
            capture_output=True,
            text=True,
            check=False,
            env=terraform_environment(self.data),
        )

    def _begin(self) -> tuple[str, str]:
        return program(), f"-chdir={self.folder}"


@dataclass(frozen=True)
class Environment:
    """`dev` or `prod` of a workspace."""

    root: Path
    name: str

    @property
    def folder(self) -> Path:
        return self.root / FOLDER / "platform"

    @property
    def terraform(self) -> Root:
        return Root(self.folder, self.folder / ".terraform" / self.name)

    @property
    def variables_file(self) -> Path:
        """What the team has chosen; what environments of that name have in common is beside it."""
        return self.folder / "environments" / f"{self.name}.team.tfvars.json"

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

    @property
    def values(self) -> tuple[str, str]:
        """Options that give Terraform the values of this environment and of the team."""
        common = self.variables_file.with_name(f"{self.name}.tfvars")
        return f"-var-file={common}", f"-var-file={self.variables_file}"

    def prepare(self, account: str, region: str) -> None:
        """`terraform init` with this environment's state: after it, plans and applies know what is there."""
        backend = {
            "bucket": state_bucket(account),
            "key": f"{self.name}.tfstate",
            "region": region,
            "encrypt": "true",
            "use_lockfile": "true",
        }
        self.terraform.init(*(f"-backend-config={key}={value}" for key, value in backend.items()))

    def plan(self, *options: str) -> None:
        self.terraform.plan(*self.values, *options)

    def output(self, name: str) -> Any:
        """An output. Raises `UserError` where the environment was never brought up."""
        said = self.terraform.ask("output", "-no-color", "-json", name)
        if said.returncode != 0:
            raise UserError(
                f"{self.name} has no output `{name}`: it is not up, or this clone does not know its state"
                f" (`reelforge infra plan --environment {self.name}` connects it). Terraform said:"
                f" {' '.join(said.stderr.split())[:300]}"
            )
        return json.loads(said.stdout)


def without_state(found: Environment, folder: Path) -> Root:
    """A copy of the code in `folder`, ready to plan an environment that has nothing yet, nor a bucket for its state."""
    ignore = shutil.ignore_patterns(".terraform", "*.tfstate*")
    shutil.copytree(found.folder.parent, folder, ignore=ignore, dirs_exist_ok=True)
    code = folder / found.folder.name
    (code / "backend_override.tf").write_text('terraform {\n  backend "local" {}\n}\n')
    copy = Root(code, found.terraform.data)  # the provider is fetched once
    copy.init()
    return copy


def state_root(root: Path) -> Root:
    """The code that makes the account's bucket for states; its own state is a file beside it."""
    folder = root / FOLDER / "state"
    return Root(folder, folder / ".terraform")
