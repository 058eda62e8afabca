"""Putting a profile in force in a workspace, for our own code and for `dvc push` and `dvc pull`; and out of force."""

from pathlib import Path
from typing import Any

from components.profile import FILE, Profile

REMOTE = "reelforge"


def settle(root: Path, profile: Profile) -> Profile:
    """Write the profile and DVC's remote (in `.dvc/config.local`, which git ignores)."""
    profile.write(root / FILE)
    with _dvc_config(root) as config:
        config["remote"][REMOTE] = _remote(root, profile)
        config["core"]["remote"] = REMOTE
    return profile


def withdraw(root: Path, made_by: str) -> None:
    """Take back what `settle` wrote, if the profile was made by that command."""
    path = root / FILE
    if not path.is_file() or Profile.load(path).made_by != made_by:
        return
    path.unlink()
    with _dvc_config(root) as config:
        config["remote"].pop(REMOTE, None)
        if config["core"].get("remote") == REMOTE:
            del config["core"]["remote"]


def _dvc_config(root: Path) -> Any:
    """The local configuration, written when the block ends."""
    from dvc.config import Config

    return Config(str((root / ".dvc").resolve())).edit("local")


def _remote(root: Path, profile: Profile) -> dict[str, Any]:
    remote: dict[str, Any] = {"url": f"s3://{profile.buckets.dvc}", "region": profile.region}
    if profile.s3_endpoint:
        remote["endpointurl"] = profile.s3_endpoint
    if profile.credentials_file:
        remote["credentialpath"] = str((root / profile.credentials_file).resolve())
    if profile.credentials_profile:
        remote["profile"] = profile.credentials_profile
    return remote
