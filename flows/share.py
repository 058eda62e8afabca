"""How the rest of the team gets what a run has made: `dvc push` carries the data, a commit carries what names them."""

import subprocess
from configparser import ConfigParser
from pathlib import Path

from components.errors import UserError
from components.params import Params
from components.profile import Profile
from components.provenance import locked_stages
from components.runtime import profile_path, stage_environment
from components.stages import STAGES
from components.storage import SCHEME
from flows.dvc import dvc_command

# what a run changes and git keeps; DVC keeps the rest, but for `runtime.store`
BASELINES = ("baseline", "data_baseline", "frozen_baseline", "ladder_baseline")
RECORDS = ("dvc.lock", "params.yaml", "reports", *BASELINES, "registry", "pipelines")

REMOTES = (
    "`reelforge services up` makes one, `reelforge services join CLONE` takes that of a clone on this machine,"
    " `reelforge infra profile` the platform's, `dvc remote add --default NAME URL` any other"
)


def how_to_share(root: Path, params: Params) -> list[str]:
    """Sentences for the end of a run; none without a DVC remote, or where everything is committed."""
    changed = _uncommitted(root)
    if not (changed and _has_remote(root)):
        return []
    lines = [
        f'dvc push && git add {" ".join(changed)} && git commit -m "a run" && git push',
        "a clone gets it with: git pull && reelforge pull",
    ]
    store = params.runtime.store_uri(root)
    if not store.startswith(SCHEME):
        lines.append(
            f"tables and latents stay in {store}/, which DVC does not carry; a store that all reach:"
            f" runtime.store: {_shared_store(root)}"
        )
    return lines


def how_it_is_shared(root: Path) -> str:
    """What a team would get of this workspace, in a sentence."""
    if not _has_remote(root):
        return f"no DVC remote, so runs stay on this machine ({REMOTES})"
    if not (root / "dvc.lock").is_file():
        return "DVC remote set, nothing was run"
    committed = "dvc.lock" not in _uncommitted(root)
    return f"DVC remote set, dvc.lock is {'' if committed else 'not '}committed as it is"


def pull(root: Path) -> int:
    """Fetch what the stages of `dvc.lock` have written, as it was when that file was committed; how many stages.

    By themselves: a plain `dvc pull` fails for every stage that was never run, such as those of other systems.
    Raises `UserError` where there is no remote, no record, or not all of it in the remote.
    """
    if not _has_remote(root):
        raise UserError(f"DVC has no remote here: {REMOTES}")
    stages = [STAGES[name].address for name in locked_stages(root) if name in STAGES]
    if not stages:
        raise UserError(
            "no dvc.lock is committed: whoever has run the pipeline shares it with what `reelforge run` says at its end"
        )
    done = subprocess.run(dvc_command("pull", *stages), cwd=root, env=stage_environment(None), check=False)
    if done.returncode != 0:
        raise UserError(
            "not everything could be fetched. What the remote does not have, whoever made it has to push (`dvc push` in"
            " their clone); where it does not answer, `reelforge doctor` says why"
        )
    return len(stages)


def _uncommitted(root: Path) -> list[str]:
    """Of `RECORDS`, those that differ from the last commit."""
    status = subprocess.run(
        ["git", "status", "--porcelain", "-z", "--", *RECORDS],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    paths = [Path(entry[3:]).parts[0] for entry in status.stdout.split("\0") if entry[3:]]
    return [name for name in RECORDS if name in paths]


def _has_remote(root: Path) -> bool:
    settings = ConfigParser(interpolation=None)
    settings.read([root / ".dvc/config", root / ".dvc/config.local"], encoding="utf-8")
    return settings.has_option("core", "remote")


def _shared_store(root: Path) -> str:
    path = profile_path(root)
    if path is None:
        return "s3://BUCKET/store"
    profile = Profile.load(path)
    return profile.store or f"{SCHEME}{profile.buckets.dvc}/store"
