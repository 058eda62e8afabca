"""Where tables and latents lie: what params.yaml says, else the profile in force, else a folder of the workspace."""

import pytest
from footage_workspace import make_root, run_stage

from components.data import store
from components.params import store_of
from components.profile import FILE, Buckets, Profile, ProfileError
from flows.cli import doctor
from tests import s3

FEW = {"footage__files": 3, "footage__static_files": 0, "footage__text_files": 0}


@pytest.fixture(autouse=True)
def _no_profile_is_named(monkeypatch):
    monkeypatch.delenv("REELFORGE_PROFILE", raising=False)


def write_profile(root, place):
    buckets = Buckets(raw="raw", dvc="dvc", mlflow="mlflow", checkpoints="checkpoints")
    profile = Profile(
        made_by="reelforge infra",
        mlflow_uri="http://127.0.0.1:1",
        prefect_api="http://127.0.0.1:1/api",
        buckets=buckets,
        store=place,
    )
    profile.write(root / FILE)


def test_params_win_over_the_profile_and_the_profile_over_the_folder(tmp_path, monkeypatch):
    root = make_root(tmp_path, **FEW)
    assert store_of(root) == root / "store"
    write_profile(root, "s3://team/store")
    assert str(store_of(root)) == "s3://team/store"
    monkeypatch.setenv("REELFORGE_PROFILE", "none")
    assert store_of(root) == root / "store"
    monkeypatch.delenv("REELFORGE_PROFILE")
    said = make_root(tmp_path / "said", runtime__store="s3://mine/here", **FEW)
    write_profile(said, "s3://team/store")
    assert str(store_of(said)) == "s3://mine/here"


def test_services_of_one_machine_leave_the_store_in_its_folder(tmp_path):
    root = make_root(tmp_path, **FEW)
    write_profile(root, None)
    assert store_of(root) == root / "store"


def test_a_file_that_is_no_profile_stops_a_stage_before_it_writes(tmp_path):
    root = make_root(tmp_path, **FEW)
    (root / FILE).write_text("store: s3://team/store\n")
    with pytest.raises(ProfileError, match="mlflow_uri"):
        store_of(root)


def test_a_deployed_platform_keeps_its_tables_in_its_bucket(tmp_path, bucket, s3_server, monkeypatch):
    """params.yaml is untouched: the profile alone moves the tables, and they are read back from there."""
    here = make_root(tmp_path / "here", **FEW)
    there = make_root(tmp_path / "there", **FEW)
    write_profile(there, f"s3://{bucket}/store")
    for root in (here, there):
        for stage in ("footage", "ingest"):
            run_stage(root, stage)
    manifest = "artifacts/clips/ingest.json"
    assert (there / manifest).read_bytes() == (here / manifest).read_bytes()  # the place is not a result
    assert store.read(there, there / manifest).equals(store.read(here, here / manifest))
    assert not list(there.rglob("*.lance"))
    listed = s3.client(s3_server).list_objects_v2(Bucket=bucket, Prefix="store/")
    assert any(".lance/" in each["Key"] for each in listed["Contents"])
    monkeypatch.setattr(doctor, "ROOT", there)
    assert f"tables and latents in s3://{bucket}/store (as the profile says)" in doctor.CHECKS["storage"]()
    monkeypatch.setattr(doctor, "ROOT", here)
    assert doctor.CHECKS["storage"]().endswith("tables and latents in store")
