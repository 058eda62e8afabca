"""Manifests in the formats that data sets come in, against rows as their authors publish them."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.data.captions import CaptionIndex, Target, read_captions
from components.data.config import IngestConfig
from components.data.listing import Listed, caption_records, read_listing
from components.data.sources import find_sources
from components.errors import UserError

CONFIG = IngestConfig(
    videos="data", manifest="list.csv", validation_share=0.3, seed=1, max_unreadable_share=0.5
)
HDVILA = {
    "video_id": "QMi8x8o55Ns",
    "url": "https://www.youtube.com/watch?v=QMi8x8o55Ns",
    "clip": [
        {"clip_id": "QMi8x8o55Ns.1.mp4", "span": ["00:00:17.759", "00:00:23.279"]},
        {"clip_id": "QMi8x8o55Ns.16.mp4", "span": ["00:04:52.140", "00:05:03.350"]},
    ],
}
PANDA = (
    "videoID,url,timestamp,caption,matching_score,desirable_filtering,shot_boundary_detection\n"
    "u_9y14GN7kU,https://www.youtube.com/watch?v=u_9y14GN7kU,\"[['0:00:16.782', '0:00:18.185'],"
    " ['0:01:35.900', '0:02:14.700']]\",\"['A man, in a hat.', \\\"A dog's tail.\\\"]\","
    '"[0.44, 0.5]","[\'desirable\', \'desirable\']","[[], []]"\n'
).replace('\\"', '""')
WEBVID = (
    "videoid,contentUrl,duration,page_dir,name\n"
    '21179416,https://example.com/a.mp4,PT00H00M11S,006001_006050,"Aerial shot, winter forest"\n'
)


def listed(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    return list(read_listing(tmp_path / name))


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")


def sources(folder, manifest):
    config = CONFIG.model_copy(update={"manifest": manifest})
    return {source.name: source for source in find_sources(folder, config)}


@pytest.mark.parametrize("write", [json.dumps, repr], ids=["json", "single quotes"])
def test_hd_vila_lists_a_video_with_its_clips(tmp_path, write):
    (row,) = listed(tmp_path, "part0.jsonl", write(HDVILA) + "\n")
    assert row.name == "QMi8x8o55Ns"
    assert row.spans == ((17.759, 23.279), (292.14, 303.35))
    assert row.pieces == ("QMi8x8o55Ns.1.mp4", "QMi8x8o55Ns.16.mp4")


def test_panda_lists_time_stamps_and_captions_of_a_video(tmp_path):
    (row,) = listed(tmp_path, "panda.csv", PANDA)
    assert row.name == "u_9y14GN7kU"
    assert row.spans == ((16.782, 18.185), (95.9, 134.7))
    assert row.captions == ("A man, in a hat.", "A dog's tail.")
    assert list(caption_records(tmp_path / "panda.csv"))[1] == {
        "path": "u_9y14GN7kU",
        "text": "A dog's tail.",
        "start": 95.9,
        "end": 134.7,
    }


def test_webvid_lists_whole_videos_in_folders(tmp_path):
    (row,) = listed(tmp_path, "webvid.csv", WEBVID)
    assert (row.name, row.spans, row.captions) == (
        "006001_006050/21179416",
        (),
        ("Aerial shot, winter forest",),
    )
    touch(tmp_path, "videos/006001_006050/21179416.mp4", "videos/other/21179416.mp4")
    assert list(sources(tmp_path, "webvid.csv")) == ["videos/006001_006050/21179416.mp4"]


def test_the_captions_of_a_published_file_reach_the_clips_that_were_cut_by_it(tmp_path):
    (tmp_path / "panda.csv").write_text(PANDA)
    (tmp_path / "webvid.csv").write_text(WEBVID)
    videos = ["deep/u_9y14GN7kU.mp4", "x/006001_006050/21179416.mp4"]
    for name, target, text in (
        ("panda.csv", Target(videos[0], 96.0, 100.0), "A dog's tail."),
        ("webvid.csv", Target(videos[1], 0.0, 2.0), "Aerial shot, winter forest"),
    ):
        index = CaptionIndex(read_captions(tmp_path / name), videos, max_words=50)
        found = index.find(target)
        assert found is not None
        assert found.text == text
        assert index.find(Target(videos[0], 40.0, 50.0)) is None


ROWS = [
    {"path": "a.mp4", "licence": "CC0-1.0", "split": "train", "text": "a cat"},
    {"path": "b/c.mp4", "start": 1.5, "end": 3.0, "text": "a dog"},
    {"path": "b/c.mp4", "start": "0:04", "end": "0:06.5", "text": "a fox"},
]
EXPECTED = [
    Listed("a.mp4", (), ("a cat",), "CC0-1.0", "train"),
    Listed("b/c.mp4", ((1.5, 3.0),), ("a dog",)),
    Listed("b/c.mp4", ((4.0, 6.5),), ("a fox",)),
]
COLUMNS = ("path", "licence", "split", "text", "start", "end")


def write_rows(path, rows):
    full = [{name: row.get(name) for name in COLUMNS} for row in rows]
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif path.suffix == ".csv":
        lines = [",".join(COLUMNS), *(",".join(str(row[n] or "") for n in COLUMNS) for row in full)]
        path.write_text("\n".join(lines))
    else:
        text = [{name: None if row[name] is None else str(row[name]) for name in COLUMNS} for row in full]
        pq.write_table(pa.Table.from_pylist(text), path)


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_a_table_of_ones_own_says_the_same_in_every_format(tmp_path, suffix):
    write_rows(tmp_path / f"list.{suffix}", ROWS)
    assert list(read_listing(tmp_path / f"list.{suffix}")) == EXPECTED


def test_rows_of_one_file_add_their_spans_and_missing_files_are_named(tmp_path):
    write_rows(
        tmp_path / "list.csv", [*ROWS, {"path": "gone.mp4"}, {"path": "../out.mp4"}, {"path": "a.txt"}]
    )
    touch(tmp_path, "a.mp4", "b/c.mp4", "a.txt")
    found = sources(tmp_path, "list.csv")
    assert list(found) == sorted(found)
    assert found["b/c.mp4"].spans == ((1.5, 3.0), (4.0, 6.5))
    assert found["a.mp4"].spans is None
    assert {name: source.reason for name, source in found.items() if source.reason} == {
        "gone.mp4": "missing_file",
        "../out.mp4": "missing_file",
        "a.txt": "unreadable",
    }


def test_absolute_paths_below_the_folder_are_found(tmp_path):
    touch(tmp_path, "a.mp4")
    write_rows(tmp_path / "list.csv", [{"path": str(tmp_path.resolve() / "a.mp4")}])
    assert not sources(tmp_path, "list.csv")["a.mp4"].reason


def test_a_video_is_found_anywhere_below_the_folder_and_so_are_clips_that_were_cut_already(tmp_path):
    other = {**HDVILA, "video_id": "whole", "clip": HDVILA["clip"][:1]}
    gone = {**HDVILA, "video_id": "gone", "clip": [{**HDVILA["clip"][0], "clip_id": "gone.1.mp4"}]}
    (tmp_path / "part0.jsonl").write_text("\n".join(map(json.dumps, (HDVILA, other, gone))))
    touch(tmp_path, "x/whole.webm", "y/QMi8x8o55Ns.16.mp4", "whole.txt")
    found = sources(tmp_path, "part0.jsonl")
    assert found["x/whole.webm"].spans == ((17.759, 23.279),)
    assert found["y/QMi8x8o55Ns.16.mp4"].spans is None
    assert found["gone"].reason == "missing_file"
    assert len(found) == 3


def test_a_folder_of_parts_is_one_manifest(tmp_path):
    (tmp_path / "meta").mkdir()
    for index in range(3):
        part = {**HDVILA, "video_id": f"v{index}"}
        (tmp_path / f"meta/part{index}.jsonl").write_text(json.dumps(part))
    assert [row.name for row in read_listing(tmp_path / "meta")] == ["v0", "v1", "v2"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.jsonl", '{"path": "a.mp4"}\n{"path": \n'),
        ("a.jsonl", '{"path": "a.mp4"}\n{"path": ""}\n'),
        ("a.jsonl", '{"path": "a.mp4"}\n{"path": "a.mp4", "start": 3, "end": 2}\n'),
        ("a.jsonl", '{"path": "a.mp4"}\n{"path": "a.mp4", "start": 0, "end": "soon"}\n'),
        ("a.csv", "path,end\na.mp4,\nb.mp4,inf\n"),
        ("a.csv", "videoID,timestamp,caption\na,[],[]\nb,\"[['0:00','0:01']]\",\"['x', 'y']\"\n"),
        ("a.csv", "videoID,timestamp,caption\na,[],[]\nb,__import__('os'),[]\n"),
    ],
)
def test_a_row_that_makes_no_sense_is_a_source_with_a_reason(tmp_path, name, text):
    rows = listed(tmp_path, name, text)
    assert len(rows) == 2
    assert not rows[0].problem
    assert rows[1].problem
    assert rows[1].name == f"{name}, row 2"
    found = sources(tmp_path, name)
    assert found[f"{name}, row 2"].reason == "bad_row"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "file,size\na.mp4,3\n", "no column path; found: file, size"),
        ("a.txt", "a.mp4\n", r"must be a \.csv, \.jsonl, \.parquet file"),
        ("a.parquet", "no parquet", "not a readable Parquet file"),
    ],
)
def test_a_file_that_is_no_manifest_says_what_one_looks_like(tmp_path, name, text, message):
    with pytest.raises(UserError, match=message):
        listed(tmp_path, name, text)


def test_a_manifest_that_is_not_there_or_empty_is_named(tmp_path):
    with pytest.raises(UserError, match=r"ingest\.manifest"):
        sources(tmp_path, "list.csv")
    (tmp_path / "list.csv").write_text("path\n")
    with pytest.raises(UserError, match="names no file"):
        sources(tmp_path, "list.csv")
