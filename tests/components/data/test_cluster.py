"""The cluster keeps the contract of the local pool, and a node that dies costs nothing but time."""

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from many_files import BAD, STAGES, WORKS, environment, finish, kept, make, manifests, report, start
from pool_work import work
from ray_nodes import DRIVER, free_port, two_nodes

from components.block_cache import BlockCache
from components.data.cluster import connect, describe, disconnect, reads_local_files
from components.data.pool import Limits, reason_counts, run_pool
from components.errors import UserError
from components.storage import ObjectPath, Place

pytestmark = pytest.mark.slow
FILES = 36
OPEN_SECONDS = 0.2  # a file takes to open, so that a node can be killed in the middle
ITEM_SECONDS = 3.0


@pytest.fixture(scope="module", autouse=True)
def loopback():
    """Set before Ray is imported, here and in the stages that are started."""
    os.environ |= DRIVER
    yield
    for name in DRIVER:
        del os.environ[name]


@pytest.fixture(scope="module")
def nodes(loopback):
    with two_nodes(environment=environment(OPEN_SECONDS)) as started:
        yield started


def limits(nodes, **options):
    return Limits(workers=2, item_seconds=1.5, cluster=nodes.address, cluster_seconds=5, **options)


def test_every_outcome_is_that_of_the_local_pool(nodes):
    items = [1, "abort", 2, "hang", 3, "reject", "exit", 5, *range(6, 40)]
    heard = []
    found = run_pool(work, items, limits(nodes), title="test", finished=lambda index, _: heard.append(index))
    assert found == run_pool(work, items, Limits(2, 1.5), title="test")
    assert reason_counts(found) == {"bad_item": 1, "crashed": 2, "timed_out": 1}
    assert sorted(heard) == list(range(len(items)))


def test_a_defect_stops_the_run_and_shows_the_traceback_of_the_worker(nodes):
    with pytest.raises(RuntimeError, match="a defect of ours") as error:
        run_pool(work, [1, "defect", 2], limits(nodes), title="test")
    assert "pool_work.py" in str(error.value)


def test_a_node_that_no_cluster_has_is_not_waited_for_without_end(nodes):
    with pytest.raises(UserError, match=r"no node of .* has 1 CPU and 0.25 GPU .*runtime\.gpus"):
        run_pool(work, [1], limits(nodes, gpus=0.25), title="test")


@pytest.mark.parametrize(
    ("address", "says"),
    [(f"127.0.0.1:{free_port()}", "does not answer"), ("ray://127.0.0.1", "is no address")],
    ids=["nobody there", "no port"],
)
def test_a_cluster_that_cannot_be_reached_is_said_before_work_starts(address, says):
    started = time.monotonic()
    with pytest.raises(UserError, match=f"runtime.cluster.*{says}"):
        connect_anew(address)
    assert time.monotonic() - started < 30


def test_what_the_cluster_has_is_described_and_compared_with_what_is_asked_for(nodes):
    assert describe(nodes.address, {}) == f"{nodes.address}: 2 nodes, 2 CPU, 0 GPU"
    with pytest.raises(UserError, match=r"runtime\.gpus\.score asks for 0\.5 GPU per worker"):
        describe(nodes.address, {"score": 0.5})


def test_a_cluster_of_another_version_is_refused_with_the_way_out(nodes):
    from ray._common.usage.usage_constants import CLUSTER_METADATA_KEY
    from ray._raylet import GcsClient

    disconnect()
    books = GcsClient(address=nodes.address)
    true = books.internal_kv_get(CLUSTER_METADATA_KEY, namespace=b"cluster")
    other = json.dumps(json.loads(true) | {"ray_version": "2.9.0"}).encode()
    try:
        books.internal_kv_put(CLUSTER_METADATA_KEY, other, True, namespace=b"cluster")
        with pytest.raises(UserError, match=r"(?s)Ray: 2\.9\.0.*same Ray and Python"):
            connect(nodes.address)
    finally:
        books.internal_kv_put(CLUSTER_METADATA_KEY, true, True, namespace=b"cluster")


def test_only_items_that_name_local_files_need_the_folder_of_this_machine():
    cache = BlockCache(Path("/somewhere"), 1)
    far = Order(ObjectPath("bucket", "a.mp4", cache), 0.0)
    assert not any(map(reads_local_files, [1, "a", far, (far, 2)]))
    assert all(map(reads_local_files, [Path("a"), Order(Path("a"), 0.0), (1, [far, Path("a")])]))


@dataclass(frozen=True)
class Order:
    path: Place
    start: float


def connect_anew(address):
    disconnect()
    connect(address)


def test_a_node_that_is_killed_changes_nothing_in_the_tables(nodes, tmp_path):
    local = make(tmp_path / "local", FILES, runtime__item_seconds=ITEM_SECONDS)
    for stage in STAGES:
        finish(start(local, stage))
    root = make(
        tmp_path / "cluster", FILES, runtime__item_seconds=ITEM_SECONDS, runtime__cluster=nodes.address
    )
    finish(start(root, "ingest"))
    assert report(root, "ingest").reasons == dict.fromkeys(BAD.values(), 1)
    process = start(root, "split")
    while not (kept(root, "split") and nodes.second_works()) and process.poll() is None:
        time.sleep(0.02)
    nodes.kill_second()
    before = kept(root, "split").total()
    said = finish(process)
    assert 0 < before < FILES - len(BAD)
    assert "was lost; its item is worked on again" in said
    finish(start(root, "score"))  # on what is left
    assert manifests(root) == manifests(local)
    for name in WORKS:
        assert set(kept(root, name).values()) == {1}
