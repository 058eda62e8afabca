"""Rows of shards, read by several threads from more files than are kept open."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from components.data import shards
from components.data.shards import ShardReader, write_shard

FILES, ROWS, VALUES, THREADS = 6, 8, 300_000, 6


def test_threads_that_open_and_close_files_for_each_other_get_the_rows_they_asked_for(tmp_path, monkeypatch):
    """A descriptor that was closed for another thread is given to the next file at once."""
    monkeypatch.setattr(shards, "OPEN_SHARDS", 2)
    names = [f"{number}.safetensors" for number in range(FILES)]
    for number, name in enumerate(names):
        write_shard(tmp_path, name, {"x": np.full((ROWS, VALUES), number, np.float16)})
    reader = ShardReader(tmp_path)
    rows = reader.layout(names[0])["x"]

    def read(seed):
        generator = np.random.default_rng(seed)
        for _ in range(40):
            chosen = generator.integers(0, FILES, 4)
            places = [(names[number], rows.offset(int(generator.integers(ROWS)))) for number in chosen]
            found = reader.read(places, rows.shape, rows.dtype)
            assert (found[:, :: VALUES - 1] == chosen[:, None]).all()

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(read, range(THREADS)))
