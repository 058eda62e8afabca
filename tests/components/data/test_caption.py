"""The caption stage: what it records about where captions came from."""

import json

import pyarrow as pa
import pytest

from components.artifacts import StagePaths
from components.data import caption, store
from components.data.config import CaptionConfig
from components.errors import ContractError, UserError


@pytest.fixture
def paths(tmp_path):
    """Three clips of two videos; the last clip is rejected."""
    clips = pa.table(
        {
            "clip_id": ["1", "2", "3"],
            "source": ["a.mp4", "a.mp4", "b.mp4"],
            "start_seconds": [0.0, 2.0, 0.0],
            "end_seconds": [2.0, 4.0, 2.0],
            "reasons": pa.array([[], [], ["blurry"]], pa.list_(pa.string())),
        }
    )
    store.create(tmp_path, "clips", clips, "filter").write(tmp_path / "filter.json")
    return StagePaths(
        root=tmp_path,
        inputs={"clips": tmp_path / "filter.json", "captions": tmp_path / "captions.csv"},
        outputs={"clips": tmp_path / "caption.json"},
        checkpoints=tmp_path,
    )


def config(paths, **more):
    return CaptionConfig(source=str(paths.inputs["captions"]), fallback="a video", max_words=3, **more)


def rows(paths):
    table = store.read(paths.root, paths.outputs["clips"], ["caption", "caption_source"])
    return list(zip(*table.to_pydict().values(), strict=True))


def test_captions_of_a_file_are_stored_with_their_source_and_the_rest_fall_back(paths):
    paths.inputs["captions"].write_text(
        "path,text,start,end\na.mp4,The video shows a very long tale,0,2\nz.mp4,x,,\n"
    )
    report = caption.run(config(paths), paths)
    assert rows(paths) == [("a very long", "file"), ("a video", "fallback"), ("a video", "fallback")]
    assert report.counts == {"clips": 2, "file": 1, "sidecar": 0, "fallback": 1}  # of the clips that pass
    assert report.reasons == {"row_unmatched": 1}
    assert report.metrics["coverage"] == 0.5
    assert report.notes[0].startswith("1 of 2 clips have no caption")


def test_sidecars_in_a_folder_are_captions_too(paths):
    folder = paths.root / "sidecars"
    folder.mkdir()
    paths.inputs["captions"] = folder
    (folder / "a.json").write_text(json.dumps({"scenes": [{"start": 0, "end": 4, "caption": "One Two"}]}))
    report = caption.run(config(paths), paths)
    assert rows(paths) == [("One Two", "sidecar"), ("One Two", "sidecar"), ("a video", "fallback")]
    assert report.counts["sidecar"] == 2
    assert report.notes == []


def test_a_source_that_matches_nothing_is_said_in_the_report(paths):
    paths.inputs["captions"].write_text("path,text\nz.mp4,a cat\n")
    report = caption.run(config(paths), paths)
    assert 'all 2 clips fell back to "a video"' in report.notes[0]


def test_a_missing_column_or_file_stops_the_stage_before_it_writes(paths):
    with pytest.raises(ContractError, match=r"captions\.csv is missing"):
        caption.run(config(paths), paths)
    paths.inputs["captions"].write_text("name,caption\n")
    with pytest.raises(UserError, match="found: name, caption"):
        caption.run(config(paths), paths)
    assert not paths.outputs["clips"].exists()


def test_scores_make_a_second_form_of_every_caption_and_leave_the_plain_one(paths):
    paths.inputs["captions"].write_text("path,text\nb.mp4,a dog runs\n")
    source = paths.inputs["clips"]
    ids = store.read(paths.root, source, ["clip_id"])["clip_id"]
    scores = {"aesthetic": [5.51, 4.0, 6.2], "motion": [0.123, 0.02, None]}
    store.add_columns(paths.root, source, pa.table({"clip_id": ids, **scores}), "score").write(source)
    caption.run(config(paths, suffixes=("aesthetic", "motion")), paths)
    assert [text for text, _ in rows(paths)] == ["a video", "a video", "a dog runs"]
    assert store.read(paths.root, paths.outputs["clips"])["scored_caption"].to_pylist() == [
        "a video. aesthetic score: 5.5, motion score: 12.",
        "a video. aesthetic score: 4.0, motion score: 2.",
        "a dog runs. aesthetic score: 6.2.",
    ]
