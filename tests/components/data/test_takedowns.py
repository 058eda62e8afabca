"""Takedowns: what was asked for is out of the next version, by content and not only by name."""

import json
import shutil

import pytest
from footage_workspace import make_root, run_stage
from video_files import counter_frame, write_video

from components.data import store
from components.data.dossier import dossier, takedown_of, touched_by
from components.data.takedowns import TAKEDOWNS, Takedown, TakedownIndex, add_takedowns, read_takedowns
from components.errors import UserError

CHAIN = ("ingest", "split", "score", "filter", "caption", "dedup")
WHOLE = {"split__threshold": 200.0, "split__gradual": False}  # each file is one clip


@pytest.fixture(scope="module")
def pristine(tmp_path_factory):
    root = make_root(
        tmp_path_factory.mktemp("takedowns"), **WHOLE, filter__min_motion=0.0, filter__min_sharpness=0.0
    )
    videos = root / "data" / "footage"
    videos.mkdir(parents=True)
    for index in range(6):
        write_video(videos / f"{index}.mp4", [counter_frame((40 * index + i) % 256) for i in range(50)])
        licence = "CC0-1.0" if index % 2 else "CC-BY-4.0"
        (videos / f"{index}.json").write_text(json.dumps({"licence": licence, "split": "train"}))
    run_chain(root)
    return root


@pytest.fixture
def root(pristine, tmp_path):
    return shutil.copytree(pristine, tmp_path / "copy")


def run_chain(root):
    return {stage: run_stage(root, stage) for stage in CHAIN}


def rows(root, stage):
    return store.read(root, root / f"artifacts/clips/{stage}.json").to_pylist()


def remove(root, kind, value):
    return add_takedowns(root / TAKEDOWNS, takedown_of(root, kind, value, "asked for"))


def test_a_source_leaves_the_next_version_by_its_name_and_by_its_bytes(root):
    remove(root, "source", "2.mp4")
    (root / "data/footage/2.mp4").rename(root / "data/footage/another name.mp4")
    reports = run_chain(root)
    assert reports["ingest"].balance["files"] == {"in": 6, "kept": 5, "taken_down": 1}
    assert {row["source"]: row["reasons"] for row in rows(root, "ingest")}["another name.mp4"] == [
        "taken_down"
    ]
    assert {row["source"] for row in rows(root, "dedup")} == {f"{i}.mp4" for i in (0, 1, 3, 4, 5)}


def test_a_licence_leaves_with_all_its_files(root):
    remove(root, "licence", "CC0-1.0")
    run_chain(root)
    assert {row["source"] for row in rows(root, "dedup")} == {"0.mp4", "2.mp4", "4.mp4"}


def test_a_clip_is_rejected_and_so_is_what_shows_some_of_it_when_clips_are_cut_anew(root):
    clip = rows(root, "dedup")[0]
    remove(root, "clip", clip["clip_id"])
    report = run_chain(root)["filter"]
    assert report.reasons["taken_down"] == 1
    assert {row["clip_id"]: row["reasons"] for row in rows(root, "filter")}[clip["clip_id"]] == ["taken_down"]
    text = (root / "params.yaml").read_text()
    (root / "params.yaml").write_text(text.replace("max_seconds: 16.0", "max_seconds: 1.2"))
    reasons = {}
    run_chain(root)
    for row in rows(root, "filter"):
        reasons.setdefault(row["source"], set()).add(tuple(row["reasons"]))
    assert clip["clip_id"] not in {row["clip_id"] for row in rows(root, "filter")}
    assert {source for source, found in reasons.items() if ("taken_down",) in found} == {clip["source"]}
    assert reasons[clip["source"]] == {("taken_down",)}


def test_what_a_takedown_touches_is_named(root):
    clip = rows(root, "dedup")[0]
    entries = takedown_of(root, "source", clip["source"], "asked for")
    touched = touched_by(root, entries)
    assert touched.clips == (clip["clip_id"],)
    (before,) = touched.versions
    assert (before.tag, before.rows) == (store.Manifest.read(root / "artifacts/clips/dedup.json").tag, 1)
    add_takedowns(root / TAKEDOWNS, entries)
    run_chain(root)
    # the new version does not hold it, the old one does
    assert touched_by(root, entries).versions == (before,)


def test_everything_known_of_a_clip_is_shown(root):
    clip = rows(root, "dedup")[0]
    found = dossier(root, clip["clip_id"])
    assert (found.clip, found.stage) == (clip, "dedup")
    assert found.source["digest"] == clip["source_digest"]
    assert dossier(root, clip["source"]).clips == (clip["clip_id"],)
    assert dossier(root, clip["source_digest"]).source == found.source
    with pytest.raises(UserError, match="no clip and no file `o'hara`"):
        dossier(root, "o'hara")


@pytest.mark.parametrize(
    ("kind", "value", "message"),
    [
        ("clip", "nobody", "no clip `nobody`"),
        ("source", "9.mp4", "no file `9.mp4`"),
        ("licence", "CC0", "there are: CC-BY-4.0, CC0-1.0"),
    ],
)
def test_a_misspelt_takedown_is_refused(root, kind, value, message):
    with pytest.raises(UserError, match=message):
        remove(root, kind, value)
    assert not (root / TAKEDOWNS).exists()


def test_entries_are_appended_once_and_never_rewritten(tmp_path):
    path = tmp_path / "takedowns.jsonl"
    one, other = Takedown("source", "a.mp4", "r", "d" * 64), Takedown("clip", "c", "r", "e" * 64, 1.0, 2.0)
    assert add_takedowns(path, [one]) == [one]
    before = path.read_bytes()
    assert add_takedowns(path, [one, other]) == [other]
    assert path.read_bytes().startswith(before)
    assert read_takedowns(path) == [one, other]


@pytest.mark.parametrize(
    "line", ["no json", "[]", '{"kind": "clip"}', '{"kind": "x", "value": "", "reason": ""}']
)
def test_a_line_that_is_no_takedown_stops_the_run(tmp_path, line):
    path = tmp_path / "takedowns.jsonl"
    path.write_text(f'{{"kind": "licence", "value": "a", "reason": "b"}}\n{line}\n')
    with pytest.raises(UserError, match="line 2"):
        read_takedowns(path)


def test_a_clip_that_only_touches_the_one_that_was_taken_down_stays():
    index = TakedownIndex([Takedown("clip", "c", "r", "digest", 2.0, 4.0)])
    assert index.has_clip("c", "elsewhere", 0.0, 1.0)
    assert index.has_clip("x", "digest", 3.5, 6.0)
    assert not index.has_clip("x", "digest", 4.0, 6.0)
    assert not index.has_clip("x", "digest", 0.0, 2.01)
    assert not index.has_clip("x", "another", 2.0, 4.0)
