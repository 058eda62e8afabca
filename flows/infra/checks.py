"""All that is asked of AWS before an environment is brought up, in the order in which it can fail."""

from collections.abc import Callable
from typing import Any

from components.errors import UserError
from components.profile import Buckets
from flows.infra import aws
from flows.infra.terraform import state_bucket

Said = Callable[[str], None]


def bucket_names(environment: str, account: str) -> dict[str, str]:
    """Use -> name, as infra/terraform/modules/storage makes them."""
    return {use: f"reelforge-{environment}-{use}-{account}" for use in Buckets.model_fields}


def check(environment: str, variables: dict[str, Any], said: Said) -> str:
    """The account, once everything that can be known beforehand allows the environment. Raises `UserError`."""
    made = aws.session(variables["region"])
    account = aws.account(made)
    said(f"account {account}, region {variables['region']}")
    said(aws.check_zones(made, variables["zones"]))
    if gpu := variables["gpu_nodes"]:
        said(aws.check_offered(made, gpu["instance_type"], gpu["zone"]))
        said(
            aws.check_quota(
                made, instance_type=gpu["instance_type"], nodes=gpu["max"], purchase=gpu["purchase"]
            )
        )
    said(aws.check_buckets(made, [*bucket_names(environment, account).values(), state_bucket(account)]))
    return account


def check_deletion(made: Any, names: dict[str, str], allowed: set[str]) -> list[str]:
    """Uses of the buckets that hold data, all of which were named. Raises `UserError` naming those that were not.

    `allowed`: uses or full names.
    """
    unknown = allowed - set(names) - set(names.values())
    if unknown:
        raise UserError(
            f"--delete-bucket {', '.join(sorted(unknown))}: the buckets are {', '.join(names.values())}"
        )
    full = [use for use, name in names.items() if not aws.is_empty(made, name)]
    kept = [use for use in full if not {use, names[use]} & allowed]
    if kept:
        ways = " ".join(f"--delete-bucket {names[use]}" for use in kept)
        raise UserError(
            f"{', '.join(names[use] for use in kept)} hold data, and nothing was deleted: name each that shall go"
            f" ({ways}), or leave --buckets out, which keeps all of them"
        )
    return full
