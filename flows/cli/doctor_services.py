"""What `reelforge doctor` asks of the services that the workspace's profile points at; nothing where there is none."""

import json
import os
import urllib.request
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from importlib.metadata import version
from pathlib import Path
from urllib.error import HTTPError, URLError

from components.errors import UserError
from components.profile import Profile
from components.runtime import profile_overrides, profile_path, use_profile

TIMEOUT_SECONDS = 5.0
BAD_KEYS = {"InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "ExpiredToken", "AuthFailure"}
Check = Callable[[], str]


@dataclass(frozen=True)
class Mends:
    """What the user does about services that do not answer, buckets that are not there, keys that are refused."""

    start: str
    buckets: str
    keys: str

    @classmethod
    def of(cls, profile: Profile) -> "Mends":
        if profile.made_by == "reelforge infra":
            return cls(
                start="run the two `kubectl port-forward` commands that `reelforge infra profile` prints",
                buckets="`reelforge infra up` makes it",
                keys="log in anew: `aws sso login`, or what AWS_PROFILE names",
            )
        up = (
            f"`reelforge services up` in {profile.workspace}"
            if profile.workspace
            else "`reelforge services up`"
        )
        return cls(start=f"{up} starts them", buckets=f"{up} makes it", keys=f"{up} writes them anew")


def service_checks(root: Path) -> dict[str, Check]:
    """Name -> check, of the profile in force. A file that is no profile is a check that fails."""
    path = profile_path(root)
    if path is None:
        return {"services": lambda: "no profile: MLflow is a file here, Prefect starts with a run"}
    try:
        profile = Profile.load(path)
        settings = profile.settings(root)
    except UserError as error:
        return {"profile": partial(_refuse, str(error))}
    mends = Mends.of(profile)
    checks: dict[str, Check] = {"profile": partial(_profile, path, profile, settings, mends)}
    use_profile(root)
    local = profile.made_by == "reelforge services"
    if not local:
        checks["AWS"] = partial(_account, profile)
    checks["MLflow"] = partial(_mlflow, profile, settings, mends)
    checks["Prefect"] = partial(_prefect, profile, settings, mends)
    if local:
        checks["databases"] = partial(_local_databases, profile.workspace or root, mends)
    else:
        checks["databases"] = partial(_databases, profile)
    checks["buckets"] = partial(_buckets, profile, mends)
    if profile.cluster and profile.cluster.gpu_instance_type:
        checks["GPU quota"] = partial(_quota, profile)
    return checks


def _refuse(reason: str) -> str:
    raise UserError(reason)


def _profile(path: Path, profile: Profile, settings: dict[str, str], mends: Mends) -> str:
    keys = settings.get("AWS_SHARED_CREDENTIALS_FILE")
    if keys and not os.access(keys, os.R_OK):
        raise UserError(f"{keys}, which holds the S3 keys, cannot be read: {mends.keys}")
    overridden = profile_overrides(settings)
    if overridden:
        names = ", ".join(overridden)
        raise UserError(f"{path} is in force, but the environment sets {names} to something else: unset them")
    return f"{path} by `{profile.made_by}`, work pool {profile.work_pool}"


def _get(url: str, sign_in: str | None, mends: Mends) -> str:
    request = urllib.request.Request(url)  # the profile's own http address
    if sign_in:
        request.add_header("Authorization", f"Basic {b64encode(sign_in.encode()).decode()}")
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer:
            return str(answer.read().decode())
    except HTTPError as error:
        if error.code in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            raise UserError(
                f"{url} does not take our user and password ({error.code}): `reelforge infra profile` fetches the"
                " present ones"
            ) from None
        raise UserError(f"{url} answers {error.code} {error.reason}: see the log of that server") from None
    except (URLError, TimeoutError, ConnectionError) as error:
        reason = getattr(error, "reason", error)
        if isinstance(reason, TimeoutError):
            reason = f"nothing in {TIMEOUT_SECONDS:g} s"
        raise UserError(f"{url} does not answer ({reason}): {mends.start}") from None


def _compare(name: str, there: str, address: str) -> str:
    here = version(name)
    if there != here:
        raise UserError(
            f"{address} runs {name} {there}, here is {here}: install {there}, or bring the server to {here}"
            " (docs/runbook.md, upgrade)"
        )
    return f"{there} at {address}"


def _mlflow(profile: Profile, settings: dict[str, str], mends: Mends) -> str:
    user, word = settings.get("MLFLOW_TRACKING_USERNAME"), settings.get("MLFLOW_TRACKING_PASSWORD")
    there = _get(f"{profile.mlflow_uri}/version", f"{user}:{word}" if user else None, mends)
    return _compare("mlflow", there, profile.mlflow_uri)


def _prefect(profile: Profile, settings: dict[str, str], mends: Mends) -> str:
    there = _get(f"{profile.prefect_api}/admin/version", settings.get("PREFECT_API_AUTH_STRING"), mends)
    return _compare("prefect", json.loads(there), profile.prefect_api)


def _local_databases(root: Path, mends: Mends) -> str:
    from flows.services import postgres, state

    try:
        current = state.load(root)
    except PermissionError:
        return f"not checked: their passwords belong to whoever runs the services of {root}"
    if not postgres.daemon(current).healthy():
        raise UserError(f"PostgreSQL at port {current.ports.postgres} does not answer: {mends.start}")
    sizes = postgres.database_sizes(current)
    if missing := set(postgres.DATABASES) - set(sizes):
        raise UserError(f"PostgreSQL has no database {', '.join(sorted(missing))}: `reelforge services up`")
    return ", ".join(f"{name} {sizes[name] / 1e6:.0f} MB" for name in postgres.DATABASES)


def _account(profile: Profile) -> str:
    from flows.infra import aws

    return f"account {aws.account(aws.session(profile.region))}, region {profile.region}"


def _databases(profile: Profile) -> str:
    from flows.infra import aws

    assert profile.databases is not None
    found = []
    for name, host in profile.databases.model_dump().items():
        try:
            state = aws.database_state(aws.session(profile.region), host.split(".")[0])
        except aws.NotAllowed as error:
            return f"not checked: {error}"
        if state != "available":
            raise UserError(
                f"database {name} ({host}) is `{state}`: see RDS in the console; docs/runbook.md, restore"
            )
        found.append(f"{name} available")
    return ", ".join(found)


def _buckets(profile: Profile, mends: Mends) -> str:
    from flows.infra import aws

    made = aws.session(profile.region)
    for name in profile.buckets.names:
        try:
            code = aws.bucket_refusal(made, name)
        except UserError as error:
            raise UserError(
                f"{error}: {mends.start if profile.s3_endpoint else 'is there a network?'}"
            ) from None
        if code == "NoSuchBucket":
            raise UserError(f"bucket {name} is not there: {mends.buckets}")
        if code in BAD_KEYS:
            raise UserError(f"S3 does not take our keys ({code}): {mends.keys}")
        if code in aws.CLOCK:
            raise UserError(f"the clock of this machine is wrong, S3 refuses what it signs: {aws.SET_CLOCK}")
        if code:
            raise UserError(
                f"bucket {name} may not be listed with these credentials ({code}): have that allowed, or use others"
            )
    return ", ".join(profile.buckets.names)


def _quota(profile: Profile) -> str:
    from flows.infra import aws

    assert profile.cluster is not None
    assert profile.cluster.gpu_instance_type is not None
    return aws.check_quota(
        aws.session(profile.region),
        instance_type=profile.cluster.gpu_instance_type,
        nodes=profile.cluster.gpu_max_nodes,
        purchase=profile.cluster.gpu_purchase or "on-demand",
    )
