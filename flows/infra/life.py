"""An environment from its plan to its end: AWS is asked, then Terraform, and nothing is done that was not agreed to."""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from components.errors import UserError
from flows.infra import aws, interrupted, terraform
from flows.infra.checks import bucket_names, check, check_deletion
from flows.infra.cost import cost_lines
from flows.infra.terraform import Environment
from flows.infra.wish import Wish, variables

Said = Callable[[str], None]
Ask = Callable[[str], None]  # returns where the answer is yes


def plan(found: Environment, wish: Wish, said: Said) -> None:
    """Show what would be made and what it costs. Raises `UserError` where it cannot be."""
    values = variables(wish, found.variables())
    account = _check(found, wish, values, said)
    bucket = terraform.state_bucket(account)
    if aws.bucket_state(aws.session(values["region"]), bucket) != "free":
        _plan(found, values, account, said)
        return
    found.write_variables(values)
    with TemporaryDirectory() as folder:
        nowhere = terraform.without_state(found, Path(folder))
        nowhere.plan(*found.values)
        _say_cost(nowhere, said)
    said(f"nothing is there yet; `reelforge infra up` makes {bucket} for Terraform's state first")


def bring_up(found: Environment, wish: Wish, said: Said, ask: Ask) -> None:
    """Make it, or go on with making it."""
    values = variables(wish, found.variables())
    account = _check(found, wish, values, said)
    _state_bucket(found, account, values["region"], said, ask)
    was_killed = _plan(found, values, account, said)
    ask("Make this? It costs money from now on.")
    if was_killed:
        made = aws.session(values["region"])
        interrupted.apply_after_kill(found.terraform, found.values, account, made, said)
        found.terraform.work.in_order()
        if left := interrupted.left_over(found.terraform, made, found.name):
            said(f"made by the command that was killed, known to no state, delete by hand: {', '.join(left)}")
    else:
        found.terraform.apply_plan()


def take_down(found: Environment, named: set[str] | None, said: Said, ask: Ask) -> None:
    """Cluster, network and databases; with `named` not None buckets, images and keys too.

    `named`: uses or names of the buckets whose data may be lost; a bucket with data that is not among them refuses.
    """
    terraform.program()
    values = found.variables()
    if "region" not in values:
        raise UserError(
            f"{found.variables_file} is not there: {found.name} was not brought up from this clone"
        )
    made = aws.session(values["region"])
    account = aws.account(made)
    full = [] if named is None else check_deletion(made, bucket_names(found.name, account), named)
    if _plan(found, {**values, "compute": False, "destroy_buckets": sorted(full)}, account, said):
        said(
            "an earlier command was killed: `reelforge infra up` takes in what it made, this takes down what is known"
        )
    ask(f"Take {found.name} down?")
    found.terraform.apply_plan()
    if named is None:
        return
    found.plan("-destroy")  # by now the state knows which buckets may go with their data
    lost = f" and all data of {', '.join(full)}" if full else ""
    ask(f"Delete the buckets, images and keys of {found.name}{lost}?")
    found.terraform.apply_plan()


def _check(found: Environment, wish: Wish, values: dict[str, Any], said: Said) -> str:
    account = check(found.name, values, said)
    terraform.program()
    if wish.needs and values["budget"] and wish.needs.dollars > values["budget"]["monthly_usd"]:
        said(
            f"[yellow]the recipe's GPUs alone cost more than the budget of {values['budget']['monthly_usd']:,.0f}[/]"
        )
    return account


def _plan(found: Environment, values: dict[str, Any], account: str, said: Said) -> bool:
    """Plan and say what it costs. True where an earlier command was cut off."""
    found.write_variables(values)
    found.prepare(account, values["region"])
    was_killed = interrupted.settle(found, account, aws.session(values["region"]), said)
    found.plan()
    _say_cost(found.terraform, said)
    return was_killed


def _say_cost(planned: terraform.Root, said: Said) -> None:
    for line in cost_lines(planned.planned()):
        said(line)


def _state_bucket(found: Environment, account: str, region: str, said: Said, ask: Ask) -> None:
    """Make the bucket that holds Terraform's states, once per account, or go on with making it."""
    root, made = terraform.state_root(found.root), aws.session(region)
    root.work.wait(said)
    was_killed = root.work.cut_off
    if aws.bucket_state(made, terraform.state_bucket(account)) != "free" and not was_killed:
        return
    values = (f"-var=region={region}",)
    root.init()
    root.plan(*values)
    ask("Make the bucket for Terraform's state?")
    interrupted.apply_after_kill(root, values, account, made, said)
    root.work.in_order()
