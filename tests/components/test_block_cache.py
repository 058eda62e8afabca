"""The cache of fetched blocks: shared by processes, whole entries only, never above its limit."""

import os
import subprocess
import sys
import threading
import time

import pytest

from components.block_cache import BlockCache
from components.errors import UserError

ROOT = __file__.rsplit("/tests/", 1)[0]
LIMIT, ENTRY = 200_000, 16_384
READER = """
import random, sys, time
from pathlib import Path
from components.block_cache import BlockCache
cache, draw = BlockCache(Path(sys.argv[1]), int(sys.argv[2])), random.Random(int(sys.argv[3]))
for _ in range(150):
    name = draw.randrange(40)
    content = bytes([name]) * int(sys.argv[4])
    path = cache.get(str(name)) or cache.put(str(name), len(content), lambda file: file.write(content))
    try:
        assert path.read_bytes() == content
    except FileNotFoundError:
        pass  # let go for another process
"""


def size_of(folder):
    total = 0
    for path in folder.glob("??/*"):
        try:
            total += path.stat().st_size
        except FileNotFoundError:
            continue
    return total


def test_processes_share_entries_and_stay_below_the_limit(tmp_path):
    command = [sys.executable, "-c", READER, str(tmp_path), str(LIMIT)]
    readers = [subprocess.Popen([*command, str(seed), str(ENTRY)], cwd=ROOT) for seed in range(3)]
    sizes = []
    while any(reader.poll() is None for reader in readers):
        sizes.append(size_of(tmp_path))
        time.sleep(0.002)
    assert [reader.returncode for reader in readers] == [0, 0, 0]
    assert max(sizes) <= LIMIT
    assert max(sizes) > LIMIT / 2  # it was used
    assert size_of(tmp_path) <= LIMIT


def test_what_was_used_longest_ago_goes_first(tmp_path):
    cache = BlockCache(tmp_path, 5 * ENTRY)
    for index in range(5):
        path = cache.put(str(index), ENTRY, lambda file: file.write(bytes(ENTRY)))
        os.utime(path, (index, index))
    cache.get("0")  # used now
    cache.put("new", ENTRY, lambda file: file.write(bytes(ENTRY)))
    assert cache.get("0")
    assert cache.get("new")
    assert cache.get("1") is None


def test_the_room_of_an_entry_that_is_being_filled_is_not_given_to_others(tmp_path):
    """Where the bytes are late, the room is taken all the same: by the length of what will be there."""
    cache = BlockCache(tmp_path, 4 * ENTRY)
    begun, others_are_in = threading.Event(), threading.Event()

    def late(file):
        begun.set()
        others_are_in.wait(10)
        file.write(bytes([7]) * 2 * ENTRY)

    filling = threading.Thread(target=cache.put, args=("film", 2 * ENTRY, late))
    filling.start()
    assert begun.wait(10)
    for index in range(6):
        cache.put(str(index), ENTRY, lambda file: file.write(bytes(ENTRY)))
    others_are_in.set()
    filling.join()
    assert size_of(tmp_path) <= 4 * ENTRY
    assert cache.get("film").read_bytes() == bytes([7]) * 2 * ENTRY


def test_an_entry_that_could_not_be_filled_leaves_nothing(tmp_path):
    cache = BlockCache(tmp_path, 2 * ENTRY)

    def broken(file):
        file.write(b"half")
        raise ConnectionError

    for _ in range(5):
        with pytest.raises(ConnectionError):
            cache.put("a", ENTRY, broken)
    assert cache.get("a") is None
    assert size_of(tmp_path) == 0
    cache.put("b", 2 * ENTRY, lambda file: file.write(bytes(2 * ENTRY)))  # the room is free again


def test_an_entry_larger_than_the_cache_says_what_to_raise(tmp_path):
    with pytest.raises(UserError, match=r"runtime.cache_gb"):
        BlockCache(tmp_path, ENTRY).put("a", ENTRY + 1, lambda file: None)
