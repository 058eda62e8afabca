"""The data stages on a bucket: the same tables as on a folder, through a bad network, and nothing read twice."""

import json
import shutil
from types import SimpleNamespace

import pytest
from footage_workspace import ROOT, make_root, run_stage

from components.artifacts import read_json
from components.data import store
from components.data.latents import LatentManifest, LatentStore
from components.errors import UserError
from components.params import Params, place_in
from flows.preflight import check_sources, check_videos
from tests import s3
from tests.tiny_parts import tiny_codec, tiny_text
from tests.workspace import call, make_workspace

CHAIN = ("ingest", "split", "score", "filter", "caption", "dedup", "validate", "encode@videos")
FEW = {"footage__files": 5, "footage__static_files": 1, "footage__text_files": 1}


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """What stages of other groups hand to the data stages; to be copied."""
    root = tmp_path_factory.mktemp("parts")
    tiny_codec().save_pretrained(root / "artifacts/autoencoder/stage3")
    tiny_text(root / "artifacts/text_encoder")
    shutil.copytree(ROOT / "data_baseline", root / "data_baseline")
    (root / "registry").mkdir()
    shutil.copy(ROOT / "registry/takedowns.jsonl", root / "registry")
    return root


@pytest.fixture(scope="module")
def local(tmp_path_factory, parts):
    """A workspace on a folder after ingest and split."""
    root = make_root(tmp_path_factory.mktemp("local"), **FEW)
    shutil.copytree(parts, root, dirs_exist_ok=True)
    reports = {name: run_stage(root, name) for name in ("footage", *CHAIN[:2])}
    return SimpleNamespace(root=root, videos=root / "data/footage", reports=reports)


@pytest.fixture
def remote(local, parts, bucket, s3_server, tmp_path):
    """A workspace whose videos, captions and store are in a bucket."""
    client = s3.client(s3_server)
    for path in sorted(local.videos.iterdir()):
        client.put_object(Bucket=bucket, Key=f"raw/{path.name}", Body=path.read_bytes())
    videos = f"s3://{bucket}/raw"
    settings = {"ingest__videos": videos, "caption__source": videos, "runtime__store": f"s3://{bucket}/team"}
    shutil.copytree(parts, tmp_path / "remote")
    return make_root(tmp_path / "remote", **FEW, **settings)


def table_of(root, stage):
    return read_json(root / f"artifacts/clips/{stage}.json")


@pytest.mark.slow
def test_the_whole_chain_makes_the_same_tables_in_a_bucket(local, remote):
    local.reports.update({name: run_stage(local.root, name) for name in CHAIN[2:]})
    reports = {name: run_stage(remote, name) for name in CHAIN}
    for stage in ("ingest", "split", "score", "filter", "caption", "dedup"):
        assert table_of(remote, stage) == table_of(local.root, stage)  # tables, digests and tags
        manifest = f"artifacts/clips/{stage}.json"
        assert store.read(remote, remote / manifest).equals(store.read(local.root, local.root / manifest))
    for name in CHAIN:
        assert (reports[name].counts, reports[name].reasons) == (
            local.reports[name].counts,
            local.reports[name].reasons,
        )
    assert not list((remote / "store").rglob("*.lance"))
    assert not list((remote / "store").rglob("*.safetensors"))
    _compare_latents(local.root, remote)
    check_sources(remote, Params.load(remote / "params.yaml"))


def _compare_latents(local, remote):
    path = "artifacts/latents/videos.json"
    here, there = LatentManifest.read(local / path), LatentManifest.read(remote / path)
    assert [(family.name, family.rows) for family in here.families] == [
        (family.name, family.rows) for family in there.families
    ]
    assert [shard.sha256 for shard in here.shards] == [shard.sha256 for shard in there.shards]
    family = there.families[0]
    read = LatentStore(remote / path, root=remote).read(family, [0, family.rows - 1])
    known = LatentStore(local / path, root=local).read(family, [0, family.rows - 1])
    assert all(ours.equal(theirs) for ours, theirs in zip(known, read, strict=True))
    assert LatentStore(remote / path, root=remote).verify() == []


def test_connections_that_break_off_change_nothing(local, remote, s3_server, monkeypatch):
    with s3.Proxy(s3_server, s3.first(4, after=2000)) as proxy:
        s3.use(proxy.url, monkeypatch)
        for stage in ("ingest", "split"):
            run_stage(remote, stage)
        assert proxy.broken == 4
    assert table_of(remote, "split") == table_of(local.root, "split")


def test_an_object_that_cannot_be_had_is_a_row_and_is_asked_for_again(local, remote, s3_server, monkeypatch):
    name = sorted(path.name for path in local.videos.glob("*.mp4"))[1]
    wanted = f"/raw/{name}".encode()

    def cut(request):
        return 300 if request.startswith(b"GET ") and wanted in request.split(b"\r\n", 1)[0] else None

    with s3.Proxy(s3_server, cut) as proxy:
        s3.use(proxy.url, monkeypatch)
        report = run_stage(remote, "ingest")
    assert report.reasons["unreachable"] == 1
    assert any(note.startswith(f"{name}: unreachable: ") for note in report.notes)
    s3.use(s3_server, monkeypatch)
    run_stage(remote, "ingest")
    assert table_of(remote, "ingest") == table_of(local.root, "ingest")


def test_a_second_run_reads_no_video(remote):
    run_stage(remote, "ingest")
    shutil.rmtree(remote / "store/cache")
    run_stage(remote, "ingest")
    assert not list((remote / "store/cache").glob("??/*"))  # no block of any file was fetched


def test_a_changed_object_is_looked_at_again(local, remote, bucket, s3_server):
    run_stage(remote, "ingest")
    first, second = sorted(path for path in local.videos.glob("*.mp4"))[:2]
    s3.client(s3_server).upload_file(str(second), bucket, f"raw/{first.name}")
    assert run_stage(remote, "ingest").reasons["exact_duplicate"] == 1


def test_a_manifest_in_a_bucket_names_objects(remote, bucket, s3_server, local, tmp_path):
    names = sorted(path.name for path in local.videos.glob("*.mp4"))[:2]
    rows = ["path", f"s3://{bucket}/raw/{names[0]}", names[1], "s3://other/raw/c.mp4"]
    s3.client(s3_server).put_object(Bucket=bucket, Key="lists/used.csv", Body="\n".join(rows).encode())
    settings = {"ingest__videos": f"s3://{bucket}/raw", "ingest__manifest": f"s3://{bucket}/lists/used.csv"}
    root = make_root(tmp_path / "listed", **FEW, **settings)
    assert run_stage(root, "ingest").reasons == {"missing_file": 1}
    found = store.read(root, root / "artifacts/clips/ingest.json", ["source", "reasons"]).to_pylist()
    assert [row["source"] for row in found if not row["reasons"]] == names


def test_wrong_credentials_and_missing_buckets_are_said_before_work_starts(remote, s3_server):
    params = Params.load(remote / "params.yaml")
    with (
        s3.enforced(s3_server),
        pytest.raises(UserError, match=r"s3://bucket-\w+ was refused \(InvalidAccessKeyId\)"),
    ):
        check_sources(remote, params)
    with s3.enforced(s3_server), pytest.raises(UserError, match="InvalidAccessKeyId"):
        run_stage(remote, "ingest")
    assert not (remote / "artifacts").joinpath("clips").exists()
    lost = make_root(remote.parent / "lost", **FEW, runtime__store="s3://no-such-bucket/team")
    with pytest.raises(UserError, match="there is no bucket `no-such-bucket`"):
        check_sources(lost, Params.load(lost / "params.yaml"))


def test_a_prefix_is_refused_until_one_of_its_videos_can_be_read(local, remote, bucket, s3_server):
    config = Params.load(remote / "params.yaml").ingest
    client, films = s3.client(s3_server), place_in(remote, f"s3://{bucket}/films")
    with pytest.raises(UserError, match="there is no video in s3://"):
        check_videos(films, config, remote)
    client.put_object(Bucket=bucket, Key="films/a/broken.mp4", Body=b"no video")
    with pytest.raises(UserError, match=r"none of the 1 videos in s3://.*broken\.mp4"):
        check_videos(films, config, remote)
    good = next(path for path in sorted(local.videos.glob("*.mp4")) if path.stem not in _damaged(local))
    client.put_object(Bucket=bucket, Key="films/b/good.mp4", Body=good.read_bytes())
    check_videos(films, config, remote)


def _damaged(local):
    rows = store.read(
        local.root, local.root / "artifacts/clips/ingest.json", ["source", "reasons"]
    ).to_pylist()
    return {row["source"].removesuffix(".mp4") for row in rows if row["reasons"]}


@pytest.mark.slow
def test_dvc_runs_ingest_again_when_an_object_has_changed(local, remote, bucket, s3_server, tmp_path):
    settings = {name.replace("__", "."): value for name, value in FEW.items()}
    settings |= {"ingest.videos": f"s3://{bucket}/raw", "runtime.store": f"s3://{bucket}/dvc"}
    folder = make_workspace(tmp_path / "workspace", **settings)

    def changed():
        done = call(folder, "dvc", "status", "--json", "ingest")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    done = call(folder, "dvc", "repro", "--single-item", "ingest", REELFORGE_TRACKING="off")
    assert done.returncode == 0, done.stdout + done.stderr
    assert changed() == {}
    first = sorted(local.videos.glob("*.mp4"))[0]
    s3.client(s3_server).put_object(Bucket=bucket, Key=f"raw/{first.name}", Body=first.read_bytes() + b"\0")
    assert f"s3://{bucket}/raw" in json.dumps(changed()["ingest"])
