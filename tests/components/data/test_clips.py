from dataclasses import asdict
from pathlib import Path

import pyarrow as pa
import pytest

from components.data import store
from components.data.clips import read_clips


def row(clip_id, split, kept):
    return {
        "clip_id": clip_id,
        "source": f"deep/{clip_id}.mp4",
        "start_seconds": 0.5,
        "end_seconds": 2.0,
        "fps": 8.0,
        "frames": 12,
        "width": 120,
        "height": 80,
        "split": split,
        "caption": f"caption of {clip_id}",
        "caption_source": "sidecar",
        "kept": kept,
    }


@pytest.fixture
def manifest(tmp_path):
    rows = [
        row("c", "train", True),
        row("a", "validation", True),
        row("b", "train", False),
        row("d", "train", True),
    ]
    path = tmp_path / "dedup.json"
    store.create(tmp_path, "clips", pa.Table.from_pylist(rows), "dedup").write(path)
    return path


def test_only_kept_clips_are_read_sorted_by_id(manifest, tmp_path):
    clips = read_clips(manifest, root=tmp_path, videos=Path("videos"))
    assert [clip.clip_id for clip in clips] == ["a", "c", "d"]


def test_a_split_is_read_by_itself(manifest, tmp_path):
    clips = read_clips(manifest, root=tmp_path, videos=Path("videos"), split="train")
    assert [clip.clip_id for clip in clips] == ["c", "d"]


def test_a_clip_holds_its_row_and_where_its_file_lies(manifest, tmp_path):
    clip = read_clips(manifest, root=tmp_path, videos=Path("videos"), split="validation")[0]
    expected = row("a", "validation", True)
    assert clip.path == Path("videos/deep/a.mp4")
    del expected["source"], expected["kept"]
    absent = {"scored_caption": "", "selections": ()}  # columns that this table has not
    assert asdict(clip) == {**expected, **absent, "path": clip.path}


def test_selections_and_captions_with_scores_are_read_where_the_table_has_them(manifest, tmp_path):
    ids = store.read(tmp_path, manifest, ["clip_id"])["clip_id"]
    names = pa.array([["good", "all"], ["all"], [], ["all"]], pa.list_(pa.string()))
    more = {"scored_caption": ["A. score: 1.", "B.", "C.", "D."], "selections": names}
    store.add_columns(tmp_path, manifest, pa.table({"clip_id": ids, **more}), "filter").write(manifest)
    first, second, _ = read_clips(manifest, root=tmp_path, videos=Path("videos"))
    assert (first.scored_caption, first.selections) == ("A. score: 1.", ("good", "all"))
    assert (second.caption, second.scored_caption, second.selections) == ("caption of c", "C.", ())
