"""What AWS is asked before Terraform is: may we, is there room, are the names free. Nothing here changes anything.

Each check raises `UserError` with the way out. An answer that the account's policies forbid is no refusal: it is told
as a note, since who brings a cluster up need not be allowed to read quotas.
"""

import difflib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http import HTTPStatus
from typing import Any

from components.errors import UserError

VCPUS = {"p5.48xlarge": 192, "p5e.48xlarge": 192, "p5en.48xlarge": 192}
QUOTAS = {"on-demand": "Running On-Demand P instances", "spot": "All P5 Spot Instance Requests"}
DENIED = {"AccessDenied", "AccessDeniedException", "UnauthorizedOperation"}
LOGIN = "`aws configure sso` and `aws sso login`, AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
CLOCK = {"RequestTimeTooSkewed", "RequestExpired"}
CLOCK_WORDS = ("Signature expired", "Signature not yet current")
SET_CLOCK = "set it, and have it kept right (`timedatectl set-ntp true`)"
TIMEOUT_SECONDS, ATTEMPTS = 10, 3


class NotAllowed(UserError):
    """These credentials may not ask this."""

    def __init__(self, what: str) -> None:
        super().__init__(
            f"these credentials may not ask {what}: have the permission given to them, or use others"
        )


def session(region: str) -> Any:
    """Raises `UserError` for a region that does not exist or a profile that is not configured."""
    try:
        import boto3
        from botocore.exceptions import BotoCoreError
    except ImportError:
        raise UserError("`reelforge infra` needs boto3: `pip install -e '.[cluster]'`") from None
    try:
        made = boto3.session.Session(region_name=region)
    except BotoCoreError as error:
        raise UserError(f"AWS settings cannot be used: {error}; log in with {LOGIN}") from None
    regions = made.get_available_regions("eks")
    if region not in regions:
        close = difflib.get_close_matches(region, regions, n=3)
        hint = f"; did you mean {' or '.join(close)}?" if close else ""
        raise UserError(f"`{region}` is not a region of AWS that has EKS{hint} (--region)")
    return made


def client(made: Any, service: str) -> Any:
    from botocore.config import Config

    settings = Config(
        connect_timeout=TIMEOUT_SECONDS,
        read_timeout=TIMEOUT_SECONDS,
        retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
    )
    return made.client(service, config=settings)


@contextmanager
def _asking(what: str) -> Iterator[None]:
    """Errors of a request as `UserError`, and a missing permission as `NotAllowed`."""
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, TokenRetrievalError

    try:
        yield
    except ClientError as error:
        code, message = error.response["Error"]["Code"], error.response["Error"].get("Message", "")
        if code in DENIED:
            raise NotAllowed(what) from None
        if code in CLOCK or any(words in message for words in CLOCK_WORDS):
            raise UserError(f"the clock of this machine is wrong ({message or code}): {SET_CLOCK}") from None
        raise UserError(f"AWS refused to say {what} ({code}: {message}); log in anew with {LOGIN}") from None
    except (NoCredentialsError, TokenRetrievalError) as error:
        raise UserError(f"no credentials for AWS: {error}; log in with {LOGIN}") from None
    except BotoCoreError as error:
        raise UserError(
            f"AWS could not be asked {what}: {error}; is there a way to the network, a proxy?"
        ) from None


def account(made: Any) -> str:
    """Number of the account that the credentials belong to."""
    with _asking("who we are"):
        return str(client(made, "sts").get_caller_identity()["Account"])


def check_zones(made: Any, zones: list[str]) -> str:
    """The zones exist in the region and are open to this account."""
    try:
        with _asking("which zones it has"):
            answer = client(made, "ec2").describe_availability_zones()
    except NotAllowed:
        return "zones: not checked (ec2:DescribeAvailabilityZones is not allowed)"
    there = {
        zone["ZoneName"]
        for zone in answer["AvailabilityZones"]
        if zone.get("State", "available") == "available"
    }
    unknown = sorted(set(zones) - there)
    if unknown:
        raise UserError(
            f"{', '.join(unknown)}: no zone of this account in {made.region_name}; it has {', '.join(sorted(there))}"
            " (--zone)"
        )
    return f"zones {', '.join(zones)} are open"


def check_offered(made: Any, instance_type: str, zone: str) -> str:
    """The GPU machine is sold in that zone."""
    try:
        with _asking(f"where {instance_type} is sold"):
            answer = client(made, "ec2").describe_instance_type_offerings(
                LocationType="availability-zone",
                Filters=[{"Name": "instance-type", "Values": [instance_type]}],
            )
    except NotAllowed:
        return f"{instance_type}: not checked (ec2:DescribeInstanceTypeOfferings is not allowed)"
    zones = sorted(offer["Location"] for offer in answer["InstanceTypeOfferings"])
    if zone not in zones:
        where = f"in this region it is in {', '.join(zones)}" if zones else "nor anywhere in this region"
        raise UserError(f"{instance_type} is not sold in {zone}: {where} (--gpu-zone, --region)")
    return f"{instance_type} is sold in {zone}"


def check_quota(made: Any, *, instance_type: str, nodes: int, purchase: str) -> str:
    """The account may run that many machines at once; a capacity block has room of its own."""
    if purchase not in QUOTAS:
        return "quota: a capacity block brings its own"
    name, needed = QUOTAS[purchase], nodes * VCPUS[instance_type]
    try:
        with _asking("what its quotas are"):
            allowed = _quota(made, name)
    except UserError:
        return f"quota `{name}`: not checked, AWS did not tell it (servicequotas:ListServiceQuotas)"
    if allowed is None:
        return f"quota `{name}`: not found, so not checked"
    if allowed < needed:
        raise UserError(
            f"{nodes} x {instance_type} need {needed} vCPUs of the quota `{name}`, the account has {allowed:g} in"
            f" {made.region_name}: ask for {needed} under Service Quotas > Amazon EC2 (it takes days), or use"
            " fewer (--gpu-nodes)"
        )
    return f"quota `{name}`: {allowed:g} vCPUs, {needed} needed"


def _quota(made: Any, name: str) -> float | None:
    pages = client(made, "service-quotas").get_paginator("list_service_quotas").paginate(ServiceCode="ec2")
    return next(
        (quota["Value"] for page in pages for quota in page["Quotas"] if quota["QuotaName"] == name), None
    )


def bucket_state(made: Any, name: str) -> str:
    """`ours`, `free`, or `taken` by another account or another region."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        client(made, "s3").head_bucket(Bucket=name)
    except ClientError as error:
        status = error.response["ResponseMetadata"]["HTTPStatusCode"]
        if status == HTTPStatus.NOT_FOUND:
            return "free"
        return "taken"
    except BotoCoreError as error:
        raise UserError(f"S3 could not be asked for bucket {name}: {error}") from None
    return "ours"


def bucket_refusal(made: Any, name: str) -> str | None:
    """The store's error code for listing a bucket, as `NoSuchBucket`; None where it may be listed."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        client(made, "s3").list_objects_v2(Bucket=name, MaxKeys=1)
    except ClientError as error:
        return str(error.response["Error"]["Code"])
    except BotoCoreError as error:
        raise UserError(f"S3 could not be asked for bucket {name}: {error}") from None
    return None


def check_buckets(made: Any, names: list[str]) -> str:
    """Each is free, or this account's own in this region."""
    states = {name: bucket_state(made, name) for name in names}
    with suppress(NotAllowed):  # then what we may not read is taken, and no more is known
        mine = _own_buckets(made)
        states = {
            name: "taken" if state == "ours" and name not in mine else state for name, state in states.items()
        }
    if taken := [name for name, state in states.items() if state == "taken"]:
        raise UserError(
            f"bucket name taken by another account or region: {', '.join(taken)}; the names hold environment and"
            " account, so this account had them before: use the region they are in, or the other environment"
        )
    new = sum(state == "free" for state in states.values())
    return f"buckets: {new} to be made, {len(names) - new} are there"


def _own_buckets(made: Any) -> set[str]:
    """A bucket that we may read can still be somebody else's."""
    with _asking("which buckets it has"):
        return {bucket["Name"] for bucket in client(made, "s3").list_buckets()["Buckets"]}


def is_empty(made: Any, bucket: str) -> bool:
    """No object and no older version of one is in it; a bucket that is not there is empty."""
    if bucket_state(made, bucket) == "free":
        return True
    with _asking(f"what is in {bucket}"):
        found = client(made, "s3").list_object_versions(Bucket=bucket, MaxKeys=1)
    return not (found.get("Versions") or found.get("DeleteMarkers"))


def read_object(made: Any, bucket: str, key: str) -> str | None:
    """Text of an object; None where it is not there."""
    from botocore.exceptions import ClientError

    with _asking(f"what is in {bucket}"):
        try:
            return str(client(made, "s3").get_object(Bucket=bucket, Key=key)["Body"].read().decode())
        except ClientError as error:
            if error.response["Error"]["Code"] == "NoSuchKey":
                return None
            raise


def network_parts(made: Any, environment: str) -> set[str]:
    """Ids of what EC2 keeps for the environment: networks, addresses, gateways, templates; not machines."""
    wanted = {"project": "reelforge", "environment": environment}
    ids = []
    with _asking("what is tagged"):
        for key, value in wanted.items():
            filters = [{"Name": "key", "Values": [key]}, {"Name": "value", "Values": [value]}]
            pages = client(made, "ec2").get_paginator("describe_tags").paginate(Filters=filters)
            ids.append(
                {
                    tag["ResourceId"]
                    for page in pages
                    for tag in page["Tags"]
                    if tag["ResourceType"] not in {"instance", "volume", "network-interface"}
                }
            )
    return set.intersection(*ids)


def secret_arn(made: Any, name: str) -> str:
    """ARN of a secret, which ends in letters that nobody knows before; its name where it is not there."""
    try:
        with _asking(f"about the secret {name}"):
            return str(client(made, "secretsmanager").describe_secret(SecretId=name)["ARN"])
    except UserError:
        return name


def running_machines(made: Any, environment: str) -> list[dict[str, Any]]:
    """Type and launch time of the environment's running machines: what costs money now."""
    filters = [
        {"Name": "instance-state-name", "Values": ["pending", "running"]},
        {"Name": "tag:project", "Values": ["reelforge"]},
        {"Name": "tag:environment", "Values": [environment]},
    ]
    with _asking("what runs"):
        pages = client(made, "ec2").get_paginator("describe_instances").paginate(Filters=filters)
        return [machine for page in pages for group in page["Reservations"] for machine in group["Instances"]]


def secret(made: Any, arn: str) -> str:
    """The value of a secret."""
    with _asking(f"the secret {arn}"):
        return str(client(made, "secretsmanager").get_secret_value(SecretId=arn)["SecretString"])


def database_state(made: Any, identifier: str) -> str:
    """RDS's word for it, `available` where it serves."""
    with _asking(f"about the database {identifier}"):
        found = client(made, "rds").describe_db_instances(DBInstanceIdentifier=identifier)
    return str(found["DBInstances"][0]["DBInstanceStatus"])
