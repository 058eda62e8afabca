"""Places: a bucket answers as a local folder does; what goes wrong with it is retried, or said in words."""

import json
import os
import pickle
import signal
import socket
import subprocess
import sys
import time

import pytest

from components import object_store, storage
from components.block_cache import BlockCache
from components.errors import UserError
from components.storage import ObjectError, ObjectPath
from tests import s3

ROOT = __file__.rsplit("/tests/", 1)[0]
MEGABYTE = 1 << 20
UPLOAD = """
import sys
from pathlib import Path
from components import storage
from components.block_cache import BlockCache
place = storage.place_of(sys.argv[1], Path(), BlockCache(Path(sys.argv[2]), 1 << 30))
with storage.new_file(place) as file:
    file.write_bytes(bytes(40 << 20))
"""


@pytest.fixture
def cache(tmp_path):
    return BlockCache(tmp_path / "cache", 64 * MEGABYTE)


@pytest.fixture
def remote(bucket, cache, tmp_path):
    return storage.place_of(f"s3://{bucket}/team/raw", tmp_path, cache)


@pytest.fixture
def quick(monkeypatch):
    """Pauses between attempts that a test need not wait for."""
    monkeypatch.setattr(object_store, "FIRST_PAUSE", 0.001)


def put(place, content):
    with storage.new_file(place) as file:
        file.write_bytes(content)
    return place


@pytest.mark.parametrize("kind", ["folder", "bucket"])
def test_a_bucket_answers_as_a_folder_does(kind, request, tmp_path):
    place = request.getfixturevalue("remote") if kind == "bucket" else tmp_path / "raw"
    content = os.urandom(100_000)
    for name in ("b/c/film.mp4", "a-b/x.txt", "a/y.txt", "film.txt"):
        put(place / name, content)
    assert storage.files_below(place) == ["a/y.txt", "a-b/x.txt", "b/c/film.mp4", "film.txt"]
    film = place / "b/c/film.mp4"
    assert (film.name, film.stem, film.suffix) == ("film.mp4", "film", ".mp4")
    assert film.stat().st_size == len(content)
    assert film.is_file()
    assert (place / "b").is_dir()
    assert not film.is_dir()
    assert not (place / "b").is_file()
    assert not film.with_suffix(".json").exists()
    assert film.read_bytes() == content
    with film.open("rb") as stream:
        stream.seek(-10, os.SEEK_END)
        assert stream.read() == content[-10:]
        stream.seek(5)
        assert stream.read(7) == content[5:12]
    assert storage.sha256_of_file(film) == storage.sha256_of_file(storage.fetch(film))
    before = storage.stamp_of(film)
    put(film, content[::-1])
    assert storage.stamp_of(film) != before
    storage.remove(film)
    assert not film.exists()
    assert storage.stamp_of(film) == "gone"
    with pytest.raises(FileNotFoundError):
        film.open("rb")


def test_a_listing_spares_requests_and_travels_to_workers_without_it(remote, bucket):
    put(remote / "a.mp4", b"12345")
    listed = storage.listed(remote)
    s3.client(object_store.endpoint()).delete_object(Bucket=bucket, Key="team/raw/a.mp4")
    assert (listed / "a.mp4").stat().st_size == 5  # as it was listed
    assert not (listed / "b.mp4").is_file()
    sent = pickle.loads(pickle.dumps(listed / "a.mp4"))
    assert (sent, sent.listing) == (listed / "a.mp4", None)


def test_a_small_file_that_was_listed_is_one_request(remote, s3_server, monkeypatch):
    """There may be a sidecar for each of millions of videos."""
    for index in range(5):
        put(remote / f"{index}.json", b"12345")
    asked = []
    with s3.Proxy(s3_server, breaks=lambda request: asked.append(request.partition(b" ")[0])) as proxy:
        s3.use(proxy.url, monkeypatch)
        whole = storage.listed(remote)
        asked.clear()
        read = list(storage.read_many(whole / f"{index}.json" for index in range(5)))
    assert read == [b"12345"] * 5
    assert asked == [b"GET"] * 5


def test_a_range_costs_its_blocks_once(remote, s3_server, monkeypatch):
    monkeypatch.setattr(storage, "BLOCK_BYTES", MEGABYTE)
    content = os.urandom(20 * MEGABYTE)
    put(remote / "film.mp4", content)
    with s3.Proxy(s3_server) as proxy:
        s3.use(proxy.url, monkeypatch)
        for _ in range(2):
            with (remote / "film.mp4").open("rb") as stream:
                stream.seek(7 * MEGABYTE + 100)
                assert stream.read(50) == content[7 * MEGABYTE + 100 :][:50]
        assert MEGABYTE <= proxy.received < 1.2 * MEGABYTE


def test_small_files_come_in_order_and_a_missing_one_is_named(remote):
    places = [put(remote / f"{index}.json", str(index).encode()) for index in range(20)]
    read = list(storage.read_many([*places, remote / "none.json"]))
    assert read[:20] == [str(index).encode() for index in range(20)]
    assert isinstance(read[20], FileNotFoundError)


def test_an_answer_that_breaks_off_is_continued(remote, s3_server, monkeypatch, quick):
    content = os.urandom(3 * MEGABYTE)
    put(remote / "film.mp4", content)
    with s3.Proxy(s3_server, s3.first(3, after=200_000)) as proxy:
        s3.use(proxy.url, monkeypatch)
        assert (remote / "film.mp4").open("rb").read() == content
        assert proxy.broken == 3
        assert proxy.received < 1.3 * len(content)  # what had arrived is not fetched again


def test_a_busy_store_is_asked_again(remote, s3_server, monkeypatch):
    put(remote / "film.mp4", b"frames")
    with s3.Proxy(s3_server, refuses=2) as proxy:
        s3.use(proxy.url, monkeypatch)
        assert (remote / "film.mp4").open("rb").read() == b"frames"
        assert proxy.refuses == 0


def test_an_object_that_always_breaks_off_is_given_up_and_named(remote, s3_server, monkeypatch, quick):
    put(remote / "film.mp4", bytes(MEGABYTE))
    with s3.Proxy(s3_server, s3.first(10**6, after=1000)) as proxy:
        s3.use(proxy.url, monkeypatch)
        with pytest.raises(ObjectError, match=r"s3://bucket-.*/team/raw/film.mp4: broke off 6 times"):
            (remote / "film.mp4").open("rb").read()
        assert proxy.broken == object_store.ATTEMPTS


def test_an_object_that_changes_while_it_is_read_is_never_mixed(remote, monkeypatch):
    monkeypatch.setattr(storage, "BLOCK_BYTES", MEGABYTE)
    put(remote / "film.mp4", b"a" * 2 * MEGABYTE)
    with (remote / "film.mp4").open("rb") as stream:
        assert stream.read(10) == b"a" * 10
        put(remote / "film.mp4", b"b" * 2 * MEGABYTE)
        with pytest.raises(ObjectError, match="was changed while it was read"):
            stream.read()


def test_a_fetched_file_is_checked_against_its_digest(remote):
    shard = put(remote / "0.safetensors", b"weights")
    assert storage.fetch(shard, sha256=storage.sha256_of_file(shard)).read_bytes() == b"weights"
    put(remote / "1.safetensors", b"other")
    with pytest.raises(ObjectError, match="was changed or damaged"):
        storage.fetch(remote / "1.safetensors", sha256="0" * 64)


def test_an_upload_that_is_killed_leaves_no_object(remote, bucket, s3_server, tmp_path):
    with s3.Proxy(s3_server, upload_pause=0.02) as proxy:
        command = [sys.executable, "-c", UPLOAD, str(remote / "shard"), str(tmp_path / "other")]
        environment = {**os.environ, "AWS_ENDPOINT_URL": proxy.url}
        with subprocess.Popen(command, cwd=ROOT, env=environment) as process:
            while proxy.sent < 10 * MEGABYTE and process.poll() is None:
                time.sleep(0.01)
            process.send_signal(signal.SIGKILL)
        assert process.returncode == -signal.SIGKILL
    assert not (remote / "shard").is_file()
    assert storage.files_below(remote) == []


@pytest.mark.parametrize("kind", ["folder", "bucket"])
def test_a_file_that_is_not_finished_is_not_there(kind, request, tmp_path):
    place = request.getfixturevalue("remote") if kind == "bucket" else tmp_path / "raw"
    with pytest.raises(ZeroDivisionError), storage.new_file(place / "a.bin") as file:
        file.write_bytes(b"half")
        raise ZeroDivisionError
    assert storage.files_below(place) == []


def test_a_wrong_credential_is_named_before_anything_is_read(remote, s3_server, monkeypatch):
    user = s3.user_with_nothing(s3_server)
    with s3.enforced(s3_server):
        with pytest.raises(
            UserError, match=r"s3://bucket-.* was refused \(InvalidAccessKeyId\).*AWS_ACCESS_KEY_ID"
        ):
            storage.check_readable(remote)
        s3.use(s3_server, monkeypatch, AWS_ACCESS_KEY_ID=user.key, AWS_SECRET_ACCESS_KEY="wrong")
        with pytest.raises(UserError, match=r"SignatureDoesNotMatch.*secret key"):
            storage.check_readable(remote)


def test_a_permission_that_is_lacking_is_named(remote, bucket, s3_server, monkeypatch):
    only_read = {"Effect": "Allow", "Action": ["s3:ListBucket", "s3:GetObject"], "Resource": "*"}
    nothing = s3.user_with_nothing(s3_server)
    reader = s3.user_with(s3_server, json.dumps({"Version": "2012-10-17", "Statement": [only_read]}))
    with s3.enforced(s3_server):
        s3.use(s3_server, monkeypatch, AWS_ACCESS_KEY_ID=nothing.key, AWS_SECRET_ACCESS_KEY=nothing.secret)
        with pytest.raises(
            UserError, match=rf"s3://{bucket} was refused .*lack the permission.*s3:ListBucket"
        ):
            storage.check_readable(remote)
        s3.use(s3_server, monkeypatch, AWS_ACCESS_KEY_ID=reader.key, AWS_SECRET_ACCESS_KEY=reader.secret)
        storage.check_readable(remote)
        with pytest.raises(UserError, match=rf"s3://{bucket}/team/raw/.* AccessDenied.*s3:PutObject"):
            storage.check_writable(remote)


def test_a_missing_bucket_an_endpoint_nobody_answers_and_no_credentials_are_named(remote, cache, monkeypatch):
    with pytest.raises(UserError, match=r"there is no bucket `none-such` at http://127"):
        storage.check_readable(ObjectPath.parse("s3://none-such/raw", cache))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
        s3.use(url, monkeypatch)
        with pytest.raises(UserError, match=f"{url} was not reached after 2 attempts.*AWS_ENDPOINT_URL"):
            storage.check_readable(remote)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    s3.forget()
    with pytest.raises(UserError, match=r"no credentials were found.*AWS_PROFILE"):
        storage.check_readable(remote)


def test_a_uri_without_a_bucket_is_refused(cache, tmp_path):
    with pytest.raises(UserError, match="must look like s3://bucket/prefix"):
        storage.place_of("s3:///videos", tmp_path, cache)


def test_a_place_that_can_be_written_keeps_nothing_of_the_check(remote):
    storage.check_writable(remote)
    assert storage.files_below(remote) == []
