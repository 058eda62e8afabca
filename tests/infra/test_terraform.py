"""Terraform: well-formed, the same code for dev and prod, and its plans what we say they are.

The plan assertions themselves are in infra/terraform/modules/stack/tests.
"""

import re
from pathlib import Path

import pytest

from tests.infra.terraform_command import SOURCE, Terraform, copy_of_the_tree

ROOTS = ("dev", "prod", "state")
FILES = sorted(path for path in SOURCE.rglob("*.tf") if ".terraform" not in path.parts)
MAX_LINES = 300


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    return copy_of_the_tree(tmp_path_factory.mktemp("infra"))


def name_of(path: Path) -> str:
    return path.relative_to(SOURCE).as_posix()


def blocks(path: Path, kind: str) -> dict[str, str]:
    """Name -> body of the blocks of a formatted file."""
    return dict(
        re.findall(rf'^{kind} "(\w+)" {{\n(.*?)^}}', path.read_text(), flags=re.MULTILINE | re.DOTALL)
    )


@pytest.mark.infra
def test_files_are_formatted(tree: Path):
    assert Terraform(tree).run("fmt", "-check", "-recursive") == ""


@pytest.mark.infra
@pytest.mark.parametrize("root", ROOTS)
def test_roots_are_valid_with_the_locked_provider(root: str, tree: Path):
    terraform = Terraform(tree / root)
    terraform.init("-backend=false", "-lockfile=readonly")
    assert "The configuration is valid" in terraform.run("validate")


@pytest.mark.infra
def test_plans_are_what_we_say(tree: Path):
    """Encryption, no public access, EFA cards, purchase, scaling, IAM, budget; and what bad input is told."""
    stack = Terraform(tree / "modules" / "stack")
    stack.init("-backend=false")
    said = stack.run("test", seconds=400)
    passed = re.search(r"Success! (\d+) passed, 0 failed", said)
    runs = sum(path.read_text().count('\nrun "') for path in (stack.folder / "tests").glob("*.tftest.hcl"))
    assert passed, said
    assert int(passed[1]) == runs > 20


@pytest.mark.infra
def test_one_efa_card_less_fails_the_plan_assertions(tree: Path, tmp_path: Path):
    """The assertions can fail: one EFA card less, and they say so."""
    broken = copy_of_the_tree(tmp_path)
    nodes = broken / "modules" / "cluster" / "gpu_nodes.tf"
    whole = nodes.read_text()
    nodes.write_text(
        whole.replace("range(local.gpu[0].efa_interfaces)", "range(local.gpu[0].efa_interfaces - 1)")
    )
    assert nodes.read_text() != whole
    stack = Terraform(broken / "modules" / "stack")
    stack.init("-backend=false")
    done = stack.ask("test", "-filter=tests/cluster.tftest.hcl")
    assert done.returncode == 1
    assert "a p5.48xlarge has 32 network cards" in done.stdout


@pytest.mark.parametrize("name", ["main.tf", "variables.tf"])
def test_dev_and_prod_differ_in_their_values_only(name: str):
    assert (SOURCE / "dev" / name).read_bytes() == (SOURCE / "prod" / name).read_bytes()


def test_roots_take_what_the_stack_takes_and_pass_it_on():
    assert (SOURCE / "dev/variables.tf").read_bytes() == (SOURCE / "modules/stack/variables.tf").read_bytes()
    passed = set(re.findall(r"= var\.(\w+)$", (SOURCE / "dev/main.tf").read_text(), flags=re.MULTILINE))
    assert passed >= set(blocks(SOURCE / "dev/variables.tf", "variable")) - {"aws_endpoint"}


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_what_goes_in_and_out_is_described(path: Path):
    text = path.read_text()
    assert len(text.splitlines()) <= MAX_LINES
    for variable, body in blocks(path, "variable").items():
        assert re.search(r"^  type +=", body, flags=re.MULTILINE), variable
        assert re.search(r"^  description +=", body, flags=re.MULTILINE), variable
    for output, body in blocks(path, "output").items():
        assert re.search(r"^  description +=", body, flags=re.MULTILINE), output


@pytest.mark.parametrize("path", [SOURCE / "dev/variables.tf", SOURCE / "state/main.tf"], ids=name_of)
def test_what_a_person_sets_is_validated(path: Path):
    unchecked = {
        name
        for name, body in blocks(path, "variable").items()
        if "validation {" not in body and not re.search(r"type += bool$", body, flags=re.MULTILINE)
    }
    assert unchecked == set()


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_no_account_zone_or_password_is_written_down(path: Path):
    code = re.sub(r"error_message += .*|description += .*|#.*", "", path.read_text())
    assert not re.search(r"\b\d{12}\b", code)
    assert not re.search(r'"[a-z]{2}-[a-z]+-\d[a-f]"', code)
    assert not re.search(
        r'^\s*(password|secret_string|access_key|secret_key)\s*=\s*"', code, flags=re.MULTILINE
    )


@pytest.mark.parametrize("root", ROOTS)
def test_the_provider_is_pinned_and_locked_for_every_platform(root: str):
    pinned = re.search(r'version = "(\d+\.\d+\.\d+)"', (SOURCE / root / "main.tf").read_text())
    lock = (SOURCE / root / ".terraform.lock.hcl").read_text()
    assert pinned
    assert f'version     = "{pinned[1]}"' in lock
    assert lock.count('"zh:') > 1  # the registry's own hashes, one per platform
