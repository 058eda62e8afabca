"""Terraform: well-formed, one code for dev and prod, and its plans what we say they are.

The plan assertions themselves are in infra/terraform/platform/tests.
"""

import re
from pathlib import Path

import pytest

from tests.infra.terraform_command import SOURCE, Terraform, copy_of_the_tree

ROOTS = ("platform", "state")
ENVIRONMENTS = ("dev", "prod")
FILES = sorted(path for path in SOURCE.rglob("*.tf") if ".terraform" not in path.parts)
MAX_LINES = 300
PASSAGE = 15


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
    stack = Terraform(tree / "platform")
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
    stack = Terraform(broken / "platform")
    stack.init("-backend=false")
    done = stack.ask("test", "-filter=tests/cluster.tftest.hcl")
    assert done.returncode == 1
    assert "a p5.48xlarge has 32 network cards" in done.stdout


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_an_environment_sets_what_has_no_default_and_is_not_the_teams_to_say(name: str):
    declared = blocks(SOURCE / "platform/variables.tf", "variable")
    text = (SOURCE / f"platform/environments/{name}.tfvars").read_text()
    values = dict(re.findall(r"^(\w+) *= (.*)$", text, flags=re.MULTILINE))
    needed = {variable for variable, body in declared.items() if not re.search(r"^  default +=", body, re.M)}
    assert set(values) <= set(declared)
    assert needed - set(values) == {"region", "zones", "budget"}
    assert values["environment"] == f'"{name}"'


def test_no_passage_is_written_twice():
    """Of fifteen lines in a row, which is more than a version block, or what two groups of nodes have in common."""
    seen: dict[tuple[str, ...], str] = {}
    twice = set()
    for path in FILES:
        lines = [line.strip() for line in path.read_text().splitlines() if line.strip()]
        for start in range(len(lines) - PASSAGE + 1):
            first = seen.setdefault(tuple(lines[start : start + PASSAGE]), name_of(path))
            if first != name_of(path):
                twice.add((first, name_of(path)))
    assert twice == set()


def test_both_roots_lock_the_same_provider():
    locks = [(SOURCE / root / ".terraform.lock.hcl").read_bytes() for root in ROOTS]
    assert locks[0] == locks[1]


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_what_goes_in_and_out_is_described(path: Path):
    text = path.read_text()
    assert len(text.splitlines()) <= MAX_LINES
    for variable, body in blocks(path, "variable").items():
        assert re.search(r"^  type +=", body, flags=re.MULTILINE), variable
        assert re.search(r"^  description +=", body, flags=re.MULTILINE), variable
    for output, body in blocks(path, "output").items():
        assert re.search(r"^  description +=", body, flags=re.MULTILINE), output


@pytest.mark.parametrize("path", [SOURCE / "platform/variables.tf", SOURCE / "state/main.tf"], ids=name_of)
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
    pinned = re.search(
        r'version = "(\d+\.\d+\.\d+)"',
        (SOURCE / root / ("main.tf" if root == "state" else "provider.tf")).read_text(),
    )
    lock = (SOURCE / root / ".terraform.lock.hcl").read_text()
    assert pinned
    assert f'version     = "{pinned[1]}"' in lock
    assert lock.count('"zh:') > 1  # the registry's own hashes, one per platform
