"""Captions: read from any of the four forms, cleaned, and matched by path and time."""

import csv
import json
import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.data import captions as captions_module
from components.data.caption_text import clean_caption
from components.data.captions import CaptionIndex, CaptionRow, Captions, Target, read_captions
from components.errors import UserError

ROWS = [
    {"path": "a.mp4", "text": "a cat", "start": 0.0, "end": 2.0},
    {"path": "a.mp4", "text": "a dog", "start": 2.0, "end": 5.5},
    {"path": "deep/b.mp4", "text": 'a bird, "quoted"', "start": None, "end": None},
]


def write_csv(path, rows):
    with path.open("w", newline="", encoding="utf-8-sig") as stream:  # with the mark that spreadsheets write
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def write_jsonl(path, rows):
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n\n")


def write_parquet(path, rows):
    pq.write_table(pa.Table.from_pylist(rows), path)


WRITERS = {"csv": write_csv, "jsonl": write_jsonl, "parquet": write_parquet}


@pytest.mark.parametrize("suffix", WRITERS)
def test_every_file_type_gives_the_same_captions(tmp_path, suffix):
    path = tmp_path / f"captions.{suffix}"
    WRITERS[suffix](path, ROWS)
    assert read_captions(path).rows == [CaptionRow(**row) for row in ROWS]


@pytest.mark.parametrize("suffix", WRITERS)
def test_times_are_optional_and_a_missing_column_is_named_beside_those_found(tmp_path, suffix):
    path = tmp_path / f"captions.{suffix}"
    WRITERS[suffix](path, [{"path": "a.mp4", "text": "a cat"}])
    assert read_captions(path).rows == [CaptionRow("a.mp4", "a cat")]
    WRITERS[suffix](path, [{"video": "a.mp4", "text": "a cat"}])
    with pytest.raises(UserError, match="no column path; found: video, text"):
        read_captions(path)


def test_an_unknown_file_type_and_a_broken_parquet_file_are_refused(tmp_path):
    for name, message in (
        ("captions.xlsx", "must be a folder of sidecars or a .csv"),
        ("c.parquet", "readable"),
    ):
        (tmp_path / name).write_text("x")
        with pytest.raises(UserError, match=message):
            read_captions(tmp_path / name)
    (tmp_path / "empty.jsonl").touch()
    with pytest.raises(UserError, match="found: nothing"):
        read_captions(tmp_path / "empty.jsonl")


def test_a_bad_row_costs_itself_and_is_counted(tmp_path):
    path = tmp_path / "captions.jsonl"
    good = json.dumps({"path": "a.mp4", "text": "a cat"})
    bad = [
        {"path": "a.mp4", "text": 3},
        {"path": None, "text": "x"},
        {"path": "a.mp4", "text": "x", "start": "soon"},
    ]
    lines = [good, "{half", "[1]", *map(json.dumps, bad), json.dumps({"path": "a.mp4", "text": "  "})]
    path.write_text("\n".join(lines))
    captions = read_captions(path)
    assert [row.text for row in captions.rows] == ["a cat"]
    assert captions.problems == {"row_unreadable": 5, "row_empty": 1}


def test_sidecars_give_scenes_then_the_whole_file(tmp_path):
    folder = tmp_path / "deep"
    folder.mkdir()
    scenes = [{"start": 0.0, "end": 2.0, "caption": "a cat"}, {"start": 2.0, "end": 4.0}]
    (folder / "a.v2.json").write_text(json.dumps({"split": "train", "scenes": scenes, "caption": "pets"}))
    (folder / "b.txt").write_text("a bird\n")
    (tmp_path / "package.json").write_text('{"name": "not a sidecar"}')
    (tmp_path / "half.json").write_text("{")
    captions = read_captions(tmp_path)
    assert captions.problems == {"row_unreadable": 1}
    index = CaptionIndex(captions, ["deep/a.v2.mp4", "deep/b.mkv", "c.mp4"], max_words=9)
    found = [
        index.find(target)
        for target in (
            Target("deep/a.v2.mp4", 0.1, 1.9),
            Target("deep/a.v2.mp4", 2.1, 3.9),
            Target("deep/b.mkv", 0.0, 1.0),
            Target("c.mp4", 0.0, 1.0),
        )
    ]
    assert [row and row.text for row in found] == ["a cat", "pets", "a bird", None]
    assert {row.source for row in found if row} == {"sidecar"}


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("pets/cat.mp4", "pets/cat.mp4"),
        ("./pets/cat.mp4", "pets/cat.mp4"),
        ("pets\\cat.mp4", "pets/cat.mp4"),
        ("cat.mp4", "pets/cat.mp4"),
        ("cat", "pets/cat.mp4"),
        ("/data/raw/pets/cat.mp4", "pets/cat.mp4"),
        ("dogs/cat.mp4", "row_unmatched"),
        ("cow.mp4", "row_unmatched"),
        ("dog.mp4", "row_ambiguous"),
        ("2023/dog.mp4", "2023/dog.mp4"),
        ("/raw/2024/dog.mp4", "2024/dog.mp4"),
        ("top.mp4", "top.mp4"),
        ("/raw/top.mp4", "top.mp4"),
    ],
)
def test_a_row_finds_its_video_by_relative_path_or_unambiguous_name(name, found):
    videos = ["pets/cat.mp4", "2023/dog.mp4", "2024/dog.mp4", "top.mp4", "deep/top.mp4"]
    index = CaptionIndex(Captions(rows=[CaptionRow(name, "text")]), videos, max_words=9)
    matched = [video for video in videos if index.find(Target(video, 0.0, 1.0))]
    assert (matched or list(index.problems)) == [found]


def test_the_scene_with_the_largest_overlap_wins_and_a_sliver_is_no_match():
    rows = [CaptionRow("a.mp4", "one", 0.0, 2.0), CaptionRow("a.mp4", "two", 2.0, 10.0)]
    index = CaptionIndex(Captions(rows=rows), ["a.mp4"], max_words=9)
    texts = {
        (start, end): (row := index.find(Target("a.mp4", start, end))) and row.text
        for start, end in ((0.1, 1.9), (1.5, 4.0), (0.5, 2.4), (9.9, 12.0))
    }
    assert texts == {(0.1, 1.9): "one", (1.5, 4.0): "two", (0.5, 2.4): "one", (9.9, 12.0): None}


stretches = st.tuples(st.integers(0, 60), st.integers(1, 30)).map(lambda t: range(t[0], t[0] + t[1]))


@given(scenes=st.lists(stretches, max_size=6), clip=stretches)
def test_no_other_scene_overlaps_a_clip_more_than_the_one_it_gets(scenes, clip):
    rows = [CaptionRow("a.mp4", "text", float(scene.start), float(scene.stop)) for scene in scenes]
    row = CaptionIndex(Captions(rows=rows), ["a.mp4"], max_words=9).find(
        Target("a.mp4", clip.start, clip.stop)
    )
    overlaps = {(scene.start, scene.stop): len(set(scene) & set(clip)) for scene in scenes}
    most = max(overlaps.values(), default=0)
    if row is not None:
        assert overlaps[row.start, row.end] == most
    else:
        assert most < 0.25 * len(clip)
    if any(set(scene) <= set(clip) and len(scene) == most for scene in scenes):  # wholly inside of the clip
        assert (row is None) == (most == 0)


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("  a  red\n\tcircle ", "a red circle"),
        ("The video shows a red circle", "a red circle"),
        ("This short clip depicts that a Dog runs", "a Dog runs"),
        ("In this video, we can see a dog", "a dog"),
        ("In the footage, a dog runs", "a dog runs"),
        ("In the video game a man runs", "In the video game a man runs"),
        ("The picture frame contains a photo", "The picture frame contains a photo"),
        ("dogs &amp; cats <b>play</b><br/>here", "dogs & cats play here"),
        ("I <3 dogs", "I <3 dogs"),
        ("a dog https://example.org/x?y=1 runs www.example.org", "a dog runs"),
        ("a dog by @someone_1, write to a.b@example.org", "a dog by , write to a.b@example.org"),
        ("ﬁre\u200b and “ice” ２", "fire and “ice” 2"),
        ("one two three four five six seven", "one two three four five six"),
        ("...", ""),
        ("https://example.org", ""),
        ("The video shows", "The video shows"),
        ("Sure! Here is a caption for the video: The video shows a Fox.", "a Fox."),
        ("Caption: a fox", "a fox"),
        ("Here's a short description of the clip: a fox", "a fox"),
        ("This is a video of a fox", "a fox"),
        ("DSC_0042.mp4 a fox, final-cut.MOV", "a fox,"),
        ("version 2.5 of a fox.", "version 2.5 of a fox."),
        ("Here is where a fox lives: a den", "Here is where a fox lives: a den"),
    ],
)
def test_cleaning_keeps_the_description_and_its_case(raw, clean):
    assert clean_caption(raw, max_words=6 if "one two" in raw else 50) == clean


@given(st.text(max_size=60), st.integers(1, 8))
def test_a_clean_caption_is_short_plain_and_stays_as_it_is(text, max_words):
    once = clean_caption(text, max_words=max_words)
    assert len(once.split()) <= max_words
    assert once == " ".join(once.split())
    assert not any(ord(character) < 32 for character in once)


def test_case_is_lowered_only_where_it_is_asked_for():
    assert clean_caption("A Fox in Rome", max_words=9) == "A Fox in Rome"
    assert clean_caption("A Fox in Rome", max_words=9, lower_case=True) == "a fox in rome"


def matches_by_definition(name, videos):
    """Of the videos whose path ends as the name does, or the other way round, the one with most folders in common."""
    row = name.strip("/").split("/")
    exact = [video for video in videos if name in (video, video.rpartition(".")[0])]
    found = {}
    for video in videos:
        for path in (video.split("/"), video.rpartition(".")[0].split("/")):
            shorter = min(len(row), len(path))
            if row[-shorter:] == path[-shorter:] and (name[0] != "/" or len(row) >= len(path)):
                found[video] = shorter
    most = [video for video, count in found.items() if count == max(found.values())]
    return exact or (most if len(most) == 1 else "row_ambiguous" if most else "row_unmatched")


def test_rows_find_the_videos_of_the_definition():
    draw = random.Random(5)
    videos = sorted({"/".join([*draw.choices("abc", k=draw.randint(0, 3)), "v.mp4"]) for _ in range(12)})
    names = captions_module._Names(videos)
    for _ in range(500):
        folders = draw.choices("abc", k=draw.randint(0, 4))
        row = draw.choice(["", "/"]) + "/".join([*folders, draw.choice(["v.mp4", "v", "w.mp4"])])
        assert names.find(row) == matches_by_definition(row, videos), row


def test_videos_that_all_have_one_name_are_not_gone_through_for_every_row(monkeypatch):
    """A folder for each video, `video.mp4` in it, and absolute paths in the captions: common, and millions."""
    compared = []
    counted = captions_module._shared_folders
    monkeypatch.setattr(
        captions_module, "_shared_folders", lambda *both: compared.append(both) or counted(*both)
    )
    videos = [f"{index:04}/video.mp4" for index in range(1000)]
    names = captions_module._Names(videos)
    assert [names.find(f"/data/raw/{video}") for video in videos] == [[video] for video in videos]
    assert len(compared) <= 2 * len(videos)
    assert names.find("video.mp4") == "row_ambiguous"
