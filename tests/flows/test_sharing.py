"""Clones of one machine on the services of one of them: what joining writes, refuses, and takes back."""

from configparser import ConfigParser
from pathlib import Path

import pytest

from components.errors import UserError
from components.profile import FILE, Buckets, Profile
from flows.services import stack
from flows.services.profile_file import settle
from flows.services.sharing import home_of, join, leave

KEYS = Path(".services/secrets/aws_credentials")


@pytest.fixture
def clones(tmp_path) -> tuple[Path, Path]:
    """One whose services run, as its profile says, and one without."""
    first, second = tmp_path / "first", tmp_path / "second"
    for clone in (first, second):
        (clone / ".dvc").mkdir(parents=True)
        (clone / ".dvc/config").write_text("[core]\n    analytics = false\n")
    (first / KEYS).parent.mkdir(parents=True)
    (first / KEYS).write_text("[reelforge-services]\n")
    settle(first, profile())
    return first, second


def profile(**changes: object) -> Profile:
    return Profile(
        made_by="reelforge services",
        mlflow_uri="http://127.0.0.1:5001",
        prefect_api="http://127.0.0.1:4200/api",
        s3_endpoint="http://127.0.0.1:8333",
        credentials_file=KEYS,
        credentials_profile="reelforge-services",
        buckets=Buckets(raw="raw", dvc="team-dvc", mlflow="mlflow", checkpoints="checkpoints"),
    ).model_copy(update=changes)


def remote_of(clone: Path) -> dict[str, str]:
    settings = ConfigParser(interpolation=None)
    settings.read(clone / ".dvc/config.local")
    name = settings["core"]["remote"]
    return dict(settings[f"'remote \"{name}\"'"])


def test_a_clone_that_joins_has_the_same_addresses_and_remote(clones):
    first, second = clones
    joined = join(second, first)
    assert joined.settings(second) == Profile.load(first / FILE).settings(first)
    assert remote_of(second) == remote_of(first)
    assert Profile.load(second / FILE) == joined
    assert home_of(second) == first and home_of(first) == first


def test_who_joins_one_that_joined_is_on_the_same_services(clones, tmp_path):
    first, second = clones
    join(second, first)
    third = tmp_path / "third"
    (third / ".dvc").mkdir(parents=True)
    assert join(third, second).workspace == first


def test_a_copy_of_the_keys_takes_the_place_of_those_that_one_may_not_read(clones, tmp_path):
    first, second = clones
    (first / KEYS).unlink()
    with pytest.raises(UserError, match=r"cannot be read by you: let \w+ give you a copy .* --credentials"):
        join(second, first)
    copy = tmp_path / "keys"
    copy.write_text("[reelforge-services]\n")
    assert join(second, first, credentials=copy).settings(second)["AWS_SHARED_CREDENTIALS_FILE"] == str(copy)
    assert remote_of(second)["credentialpath"] == str(copy)


def test_leaving_takes_back_what_joining_wrote(clones):
    first, second = clones
    join(second, first)
    assert leave(second) == first
    assert not (second / FILE).exists()
    with pytest.raises(KeyError):
        remote_of(second)
    with pytest.raises(UserError, match="has not joined"):
        leave(second)
    with pytest.raises(UserError, match="has not joined"):
        leave(first)
    assert (first / FILE).is_file()


@pytest.mark.parametrize("command", [stack.up, stack.down, stack.rotate, stack.delete])
def test_who_joined_does_not_govern_what_others_use(clones, command):
    first, second = clones
    join(second, first)
    with pytest.raises(UserError, match=f"belong to {first}: run the command there"):
        command(second, print)


def test_what_cannot_be_joined_is_refused(clones, tmp_path):
    first, second = clones
    with pytest.raises(UserError, match="is this clone"):
        join(first, first)
    with pytest.raises(UserError, match=f"no services run in {tmp_path}: `reelforge services up` there"):
        join(second, tmp_path)
    settle(second, profile())
    with pytest.raises(UserError, match="`reelforge services down` stops them first"):
        join(second, first)
    deployed = profile(made_by="reelforge infra")
    deployed.write(second / FILE)
    with pytest.raises(UserError, match="points at a deployed platform"):
        join(second, first)
    (second / FILE).unlink()
    deployed.write(first / FILE)
    with pytest.raises(UserError, match="reelforge infra profile"):
        join(second, first)
