"""Several clones of a project on one machine, one set of services: the clone that started them, and those that joined.

A clone that has joined sees the same experiments, models and flow runs, and pulls from the same DVC remote what
another has pushed. Starting, stopping and rotating stays with the clone that the services belong to.
"""

import os
from pathlib import Path

from components.errors import UserError
from components.profile import FILE, Profile
from components.runtime import profile_path
from flows.services.profile_file import settle, withdraw

MADE_BY = "reelforge services"


def home_of(root: Path) -> Path:
    """The workspace whose services are in force in this one."""
    profile = _in_force(root)
    return profile.workspace if profile and profile.workspace else root.resolve()


def check_own(root: Path) -> None:
    """Raises `UserError` where this workspace goes by services of another one."""
    home = home_of(root)
    if home != root.resolve():
        raise UserError(
            f"the services that this clone uses belong to {home}: run the command there; `reelforge services leave`"
            " parts this clone from them"
        )


def check_not_deployed(root: Path) -> None:
    """Raises `UserError` where the profile in force is that of a deployed platform."""
    profile = _in_force(root)
    if profile and profile.made_by != MADE_BY:
        path = profile_path(root)
        raise UserError(
            f"{path} points at a deployed platform; move it away (`mv {path} deployed.yaml`) before services of this"
            " machine take its place: REELFORGE_PROFILE=deployed.yaml goes back to it"
        )


def join(root: Path, other: Path, *, credentials: Path | None = None) -> Profile:
    """Point this workspace at the services of `other`, which run. `credentials`: a copy of their S3 keys.

    Raises `UserError` where it has services of its own, they have not been started, or their keys cannot be read.
    """
    check_not_deployed(root)
    other = _that_owns(other.resolve())
    if other == root.resolve():
        raise UserError(f"{other} is this clone: name the one whose services it shall use")
    current = _in_force(root)
    if current and current.workspace is None:
        raise UserError(
            "services of this clone itself are in force: `reelforge services down` stops them first"
        )
    path = other / FILE
    if not path.is_file():
        raise UserError(f"no services run in {other}: `reelforge services up` there starts them")
    profile = Profile.load(path)
    if profile.made_by != MADE_BY or profile.credentials_file is None:
        raise UserError(
            f"{path} is not of services on this machine: `reelforge infra profile` writes one like it here"
        )
    keys = (credentials or other / profile.credentials_file).absolute()
    _check_readable(keys, owner_of=path)
    return settle(root, profile.model_copy(update={"credentials_file": keys, "workspace": other}))


def _that_owns(workspace: Path) -> Path:
    """Whose services its profile file names, whatever profile the environment puts in force here."""
    path = workspace / FILE
    named = Profile.load(path).workspace if path.is_file() else None
    return named or workspace


def leave(root: Path) -> Path:
    """Take back what `join` wrote; the workspace that was left."""
    home = home_of(root)
    if home == root.resolve():
        raise UserError("this clone has not joined services of another one")
    withdraw(root, MADE_BY)
    return home


def _check_readable(keys: Path, *, owner_of: Path) -> None:
    if os.access(keys, os.R_OK):
        return
    raise UserError(
        f"{keys}, which holds the S3 keys, cannot be read by you: let {owner_of.owner()} give you a copy that only you"
        " read, and name it with --credentials"
    )


def _in_force(root: Path) -> Profile | None:
    path = profile_path(root)
    return Profile.load(path) if path and path.is_file() else None
