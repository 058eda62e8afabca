"""What `reelforge doctor` asks of the services that the workspace's profile points at; nothing where there is none."""

import json
import urllib.request
from base64 import b64encode
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from urllib.error import URLError

from components.errors import UserError
from components.profile import Profile
from components.runtime import profile_overrides, profile_path, use_profile

TIMEOUT_SECONDS = 5.0
RESTART = "`reelforge services up`{place} starts them"
FORWARD = "run the two `kubectl port-forward` commands that `reelforge infra profile` prints"
Check = Callable[[], str]


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
    checks: dict[str, Check] = {"profile": partial(_profile, path, profile, settings)}
    use_profile(root)
    local = profile.made_by == "reelforge services"
    place = f" in {profile.workspace}" if profile.workspace else ""
    mend = RESTART.format(place=place) if local else FORWARD
    if not local:
        checks["AWS"] = partial(_account, profile)
    checks["MLflow"] = partial(_mlflow, profile, settings, mend)
    checks["Prefect"] = partial(_prefect, profile, settings, mend)
    checks["databases"] = (
        partial(_local_databases, profile.workspace or root, mend) if local else partial(_databases, profile)
    )
    checks["buckets"] = partial(_buckets, profile, mend if local else "`reelforge infra up` makes them")
    if profile.cluster and profile.cluster.gpu_instance_type:
        checks["GPU quota"] = partial(_quota, profile)
    return checks


def _refuse(reason: str) -> str:
    raise UserError(reason)


def _profile(path: Path, profile: Profile, settings: dict[str, str]) -> str:
    overridden = profile_overrides(settings)
    if overridden:
        names = ", ".join(overridden)
        raise UserError(f"{path} is in force, but the environment sets {names} to something else: unset them")
    return f"{path} by `{profile.made_by}`, work pool {profile.work_pool}"


def _get(url: str, sign_in: str | None, mend: str) -> str:
    request = urllib.request.Request(url)  # the profile's own http address
    if sign_in:
        request.add_header("Authorization", f"Basic {b64encode(sign_in.encode()).decode()}")
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer:
            return str(answer.read().decode())
    except URLError as error:
        reason = getattr(error, "reason", error)
        raise UserError(f"{url} does not answer ({reason}): {mend}") from None
    except TimeoutError:
        raise UserError(f"{url} does not answer in {TIMEOUT_SECONDS:g} s: {mend}") from None


def _compare(name: str, there: str, address: str) -> str:
    here = version(name)
    if there != here:
        raise UserError(
            f"{address} runs {name} {there}, here is {here}: install {there}, or bring the server to {here}"
            " (docs/runbook.md, upgrade)"
        )
    return f"{there} at {address}"


def _mlflow(profile: Profile, settings: dict[str, str], mend: str) -> str:
    user, word = settings.get("MLFLOW_TRACKING_USERNAME"), settings.get("MLFLOW_TRACKING_PASSWORD")
    there = _get(f"{profile.mlflow_uri}/version", f"{user}:{word}" if user else None, mend)
    return _compare("mlflow", there, profile.mlflow_uri)


def _prefect(profile: Profile, settings: dict[str, str], mend: str) -> str:
    there = _get(f"{profile.prefect_api}/admin/version", settings.get("PREFECT_API_AUTH_STRING"), mend)
    return _compare("prefect", json.loads(there), profile.prefect_api)


def _local_databases(root: Path, mend: str) -> str:
    from flows.services import postgres, state

    try:
        current = state.load(root)
    except PermissionError:
        return f"not checked: their passwords belong to whoever runs the services of {root}"
    if not postgres.daemon(current).healthy():
        raise UserError(f"PostgreSQL at port {current.ports.postgres} does not answer: {mend}")
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


def _buckets(profile: Profile, mend: str) -> str:
    from flows.infra import aws

    made = aws.session(profile.region)
    states = {name: aws.bucket_state(made, name) for name in profile.buckets.names}
    if bad := [f"{name} ({state})" for name, state in states.items() if state != "ours"]:
        raise UserError(
            f"{', '.join(bad)} cannot be used (free: it is not there; taken: these credentials may not read it): {mend}"
        )
    return ", ".join(states)


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
