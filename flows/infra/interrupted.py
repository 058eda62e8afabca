"""After an apply that was killed: its lock is given back, and what it made without writing it down is taken in.

Terraform writes its state to the bucket about every twenty seconds, so what was made in the last of them, or was still
being made (a cluster takes ten minutes), stands in AWS and not in the state. The next apply is then told that the name
is taken; whatever has a name of its own is imported under it, and the apply goes on.
"""

import json
import re
import socket
from collections.abc import Callable
from datetime import datetime
from typing import Any

from components.errors import UserError
from flows.infra import aws
from flows.infra.terraform import Environment, Root, TerraformFailed, state_bucket

IMPORTS = "taken_in.tf"  # beside the code while it is needed
THERE = re.compile(r"already.?(exists|owned)|duplicate|in use", re.IGNORECASE)  # what AWS's services call it
CLOCKS_SECONDS = 60.0  # by which the clock of a lock may be behind ours
# what `terraform import` takes, from the planned values; resources without a name of their own are made anew
IMPORT_IDS = {
    "aws_budgets_budget": "{account}:{name}",
    "aws_cloudwatch_log_group": "{name}",
    "aws_db_instance": "{identifier}",
    "aws_db_parameter_group": "{name}",
    "aws_db_subnet_group": "{name}",
    "aws_ecr_repository": "{name}",
    "aws_eks_addon": "{cluster_name}:{addon_name}",
    "aws_eks_cluster": "{name}",
    "aws_eks_node_group": "{cluster_name}:{node_group_name}",
    "aws_iam_openid_connect_provider": "arn:aws:iam::{account}:oidc-provider/{host}",
    "aws_iam_role": "{name}",
    "aws_kms_alias": "{name}",
    "aws_placement_group": "{name}",
    "aws_s3_bucket": "{bucket}",
    "aws_secretsmanager_secret": "{arn}",
}
Said = Callable[[str], None]


def settle(found: Environment, account: str, made: Any, said: Said) -> bool:
    """Let an earlier command end, or give back the lock of one that was killed. True where one was cut off.

    `found` is prepared. A lock that another machine or an older command holds is left alone.
    """
    work = found.terraform.work
    began = work.wait(said)
    (found.folder / IMPORTS).unlink(missing_ok=True)
    if began is None:
        return work.cut_off
    text = aws.read_object(made, state_bucket(account), f"{found.name}.tfstate.tflock")
    if text is None:
        return True
    lock = json.loads(text)
    since = datetime.fromisoformat(lock["Created"]).timestamp()
    ours = lock["Who"].rpartition("@")[2] == socket.gethostname() and since > began - CLOCKS_SECONDS
    if ours:
        said(f"an earlier command was killed and left its lock on the state ({lock['ID']}): it is given back")
        done = found.terraform.ask("force-unlock", "-no-color", "-force", lock["ID"])
        if done.returncode != 0:
            raise UserError(f"the lock could not be given back: {' '.join(done.stderr.split())}")
    return True


def apply_after_kill(terraform: Root, values: tuple[str, ...], account: str, made: Any, said: Said) -> None:
    """Apply the plan; what an apply that was killed has made is imported once it stands in the way.

    Raises `TerraformFailed` for whatever cannot be helped so.
    """
    imports: dict[str, str] = {}
    file = terraform.folder / IMPORTS
    try:
        while True:
            wanted = _creations(terraform.planned())
            try:
                terraform.apply_plan()
                return
            except TerraformFailed:
                more = _standing(terraform, wanted, account, made).items() - imports.items()
                if not more:
                    raise
            for address, identifier in sorted(more):
                said(f"{address} ({identifier}) was made by the command that was killed: it is taken in")
            imports |= dict(more)
            file.write_text("".join(_block(*each) for each in sorted(imports.items())))
            terraform.plan(*values)
    finally:
        file.unlink(missing_ok=True)


def left_over(terraform: Root, made: Any, environment: str) -> list[str]:
    """Ids of network parts that a command that was killed has made, and that no state knows: they have no names."""
    known: set[str] = set()
    try:
        there = aws.network_parts(made, environment)
    except aws.NotAllowed:
        return []
    _ids(json.loads(terraform.ask("show", "-json").stdout or "{}"), known)
    return sorted(there - known)


def _ids(part: Any, into: set[str]) -> None:
    """All words of Terraform's state, ids among them."""
    if isinstance(part, str):
        into.add(part)
    elif isinstance(part, list | dict):
        for each in part.values() if isinstance(part, dict) else part:
            _ids(each, into)


def _standing(
    terraform: Root, wanted: dict[str, tuple[str, dict[str, Any]]], account: str, made: Any
) -> dict[str, str]:
    """Address -> import id, of what the last apply could not make because it is there."""
    addresses = _blamed(terraform.work.log("apply").read_text()) & set(wanted)
    found = {address: import_id(*wanted[address], account, made) for address in addresses}
    return {address: identifier for address, identifier in found.items() if identifier}


def _block(address: str, identifier: str) -> str:
    return f"import {{\n  to = {address}\n  id = {json.dumps(identifier)}\n}}\n"


def _creations(plan: dict[str, Any]) -> dict[str, tuple[str, dict[str, Any]]]:
    """Address -> type and planned values, of what the plan makes."""
    return {
        change["address"]: (change["type"], change["change"]["after"])
        for change in plan.get("resource_changes", [])
        if change["change"]["actions"] == ["create"]
    }


def _blamed(log: str) -> set[str]:
    """Addresses of what Terraform's errors say is there already."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", log)
    errors = re.split(r"^\W*Error: ", plain, flags=re.MULTILINE)[1:]
    there = [
        re.search(r"^\W*with (.+),$", error, flags=re.MULTILINE) for error in errors if THERE.search(error)
    ]
    return {found[1] for found in there if found}


def import_id(kind: str, values: dict[str, Any], account: str, made: Any) -> str | None:
    """Under which a resource of that type is imported; None for those that have no name of their own."""
    pattern = IMPORT_IDS.get(kind)
    if pattern is None:
        return None
    known = {**values, "account": account}
    if kind == "aws_secretsmanager_secret":
        known["arn"] = aws.secret_arn(made, values["name"])
    if kind == "aws_iam_openid_connect_provider":
        known["host"] = str(values.get("url", "")).removeprefix("https://")
    try:
        return pattern.format(**known)
    except KeyError:
        return None
