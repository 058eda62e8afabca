"""The finished table: what a passing and a failing validation leave behind."""

import logging
import re
import shutil

import pyarrow as pa
import pytest

from components.artifacts import StagePaths, read_json, sha256_of, write_json
from components.data import store, table_parts, validate
from components.data.config import ValidateConfig
from components.data.expectations import expectations, frame_of
from components.errors import ContractError, DataQualityError

CONFIG = ValidateConfig(min_clips=4, min_caption_coverage=0.5, min_motion_mean=0.1)
NUMBER = 8
GOOD = {
    "clip_id": [f"{index:016x}" for index in range(NUMBER)],
    "source": [f"{index // 2}.mp4" for index in range(NUMBER)],
    "source_digest": [f"d{index // 2}" for index in range(NUMBER)],
    "start_seconds": [0.0] * NUMBER,
    "end_seconds": [2.0] * NUMBER,
    "fps": [8.0] * NUMBER,
    "frames": [16] * NUMBER,
    "width": [96] * NUMBER,
    "height": [96] * NUMBER,
    "split": ["train"] * 6 + ["validation"] * 2,
    "motion": pa.array([0.3] * NUMBER, pa.float32()),
    "sharpness": pa.array([None] * NUMBER, pa.float32()),
    "text_share": pa.array([0.0] * NUMBER, pa.float32()),
    "brightness": pa.array([0.5] * NUMBER, pa.float32()),
    "caption": ["a cat"] * NUMBER,
    "caption_source": ["file"] * 4 + ["fallback"] * 4,
    "kept": [True] * NUMBER,
}


@pytest.fixture
def paths(tmp_path):
    write_json(tmp_path / "previous/summary.json", {"version": None})
    return StagePaths(
        root=tmp_path,
        inputs={"clips": tmp_path / "dedup.json", "previous": tmp_path / "previous"},
        outputs={
            "result": tmp_path / "validate/result.json",
            "docs": tmp_path / "validate/docs",
            "summary": tmp_path / "validate/summary.json",
        },
        checkpoints=tmp_path,
    )


def run(paths, config=CONFIG, **columns):
    table = pa.table({**GOOD, **columns})
    store.create(paths.root, "clips", table, "dedup").write(paths.inputs["clips"])
    return validate.run(config, paths)


def failures(paths, config=CONFIG, **columns):
    """The lines of the error: one per failed expectation."""
    with pytest.raises(DataQualityError) as failure:
        run(paths, config, **columns)
    first, *lines, last = str(failure.value).splitlines()
    assert re.match(r"validate: \d+ of \d+ expectations fail:", first)
    assert last.endswith("docs/index.html")
    assert (paths.outputs["docs"] / "index.html").is_file()
    assert not paths.outputs["result"].exists()
    return [line.strip() for line in lines]


def test_a_good_table_passes_and_the_outputs_are_the_same_files_each_time(paths, capfd, caplog):
    caplog.set_level(logging.INFO)
    rest = {"kept": [True] * 7 + [False], "caption": ["a cat"] * 7 + [None]}  # only kept clips are looked at
    report = run(paths, **rest)
    assert report.counts == {"clips": 7, "train": 6, "validation": 1, "sources": 4}
    result = read_json(paths.outputs["result"])
    assert result["rows"] == 7
    assert result["clips"] == store.Manifest.read(paths.inputs["clips"]).digest
    assert all(finding["success"] for finding in result["expectations"])
    before = [sha256_of(paths.outputs[name]) for name in ("result", "docs")]
    run(paths, **rest)
    assert [sha256_of(paths.outputs[name]) for name in ("result", "docs")] == before
    assert capfd.readouterr() == ("", "")
    speakers = {record.name.partition(".")[0] for record in caplog.records}
    assert "components" in speakers
    assert "great_expectations" not in speakers
    assert_documentation_stands_alone(paths.outputs["docs"])


def assert_documentation_stands_alone(folder):
    pages = list(folder.rglob("*.html"))
    assert len(pages) == 3  # index, expectations, validation
    assert "no file has clips in both training and validation" in (folder / "index.html").read_text()
    for page in pages:
        text = page.read_text()
        assert not re.search(r"<(script|link|img|iframe)\b|url\(|@import", text)
        for link in re.findall(r'href="([^"#]+)', text):
            assert link.startswith("http") or (page.parent / link).is_file(), link


def test_each_failed_expectation_is_said_in_words_with_what_was_found(paths):
    assert failures(
        paths,
        ValidateConfig(min_clips=9, min_caption_coverage=0.75, min_motion_mean=0.5),
        caption=["a cat"] * 7 + [" "],
        split=["train", "validation"] * 4,
        height=[96] * 7 + [8],
    ) == [
        "there are at least 9 clips (validation.min_clips): 8",
        "clips are at least 16 pixels high: 1 of 8 do not, as 8",
        "no file has clips in both training and validation: 8 of 8 do not, as 2, 2, 2",
        "no caption is empty: 1 of 8 do not, as 0",
        "at least 75% of the clips have a caption of their own"
        " (validation.min_caption_coverage; see reports/caption.json): 0.5",
        "the mean motion is at least 0.5 (validation.min_motion_mean): 0.3",
    ]


def test_nulls_missing_splits_and_a_floor_on_a_score_that_was_not_computed_fail(paths):
    lines = failures(
        paths,
        split=["validation"] * 8,
        source=[None, *GOOD["source"][1:]],
        motion=pa.array([None] * NUMBER, pa.float32()),
    )
    assert lines[0] == "every clip has source: 1 of 8 do not"
    assert lines[1].startswith("there are clips for training")
    assert lines[2].startswith("the mean motion is at least 0.1")
    assert len(lines) == 3


def test_a_score_that_was_not_computed_is_not_expected_without_a_floor():
    empty = pa.array([None] * NUMBER, pa.float32())
    frame = frame_of(pa.table({**GOOD, "motion": empty, "brightness": empty}))
    config = CONFIG.model_copy(update={"min_motion_mean": 0.0})
    assert {"motion", "brightness"}.isdisjoint(each.column for each in expectations(config, frame)[2:])


def test_an_expectation_that_cannot_be_worked_out_is_a_failure(tmp_path):
    import great_expectations.expectations as gxe
    import pandas as pd

    broken = gxe.ExpectColumnValuesToBeUnique(column="nowhere", meta={"words": "it is there"})
    (finding,) = validate.check(pd.DataFrame({"a": [1]}), [broken], tmp_path / "docs", name="rows")
    assert not finding["success"]
    assert "nowhere" in finding["found"]


def accept(paths):
    """Make the present version the one that the next is compared with."""
    shutil.copyfile(paths.outputs["summary"], paths.inputs["previous"] / "summary.json")


def test_the_first_version_has_nothing_to_be_compared_with(paths):
    report = run(paths)
    assert not [name for name in report.metrics if name.startswith("drift_")]


def test_the_same_version_has_not_moved(paths):
    run(paths)
    accept(paths)
    report = run(paths)
    moved = {name: value for name, value in report.metrics.items() if name.startswith("drift_")}
    assert {"drift_motion", "drift_seconds", "drift_split"} <= set(moved)
    assert set(moved.values()) == {0.0}


def test_a_column_that_moved_fails_by_name_only_where_a_limit_is_set(paths):
    run(paths)
    accept(paths)
    faster = {"motion": pa.array([2.0] * NUMBER, pa.float32())}
    report = run(paths, **faster)
    assert report.metrics["drift_motion"] > 1
    assert "distributed as in the previous version" in (paths.outputs["docs"] / "index.html").read_text()
    (line,) = failures(paths, CONFIG.model_copy(update={"max_drift": 0.25}), **faster)
    assert line.startswith("motion is distributed as in the previous version by at most 0.25")
    assert not paths.outputs["summary"].exists()


def test_a_version_to_compare_with_that_is_missing_says_the_way_out(paths):
    (paths.inputs["previous"] / "summary.json").unlink()
    with pytest.raises(ContractError, match="reelforge data accept"):
        run(paths)


MORE = {"min_clips": 9, "min_caption_coverage": 0.75, "min_motion_mean": 0.5}
BAD = {
    "caption": ["a cat"] * 7 + [" "],
    "split": ["train", "validation"] * 4,
    "height": [96] * 7 + [8],
    "width": [8, 8, *[96] * 6],
}


def test_a_table_in_parts_is_found_to_be_what_the_whole_one_is(paths, monkeypatch):
    whole_report, whole = run(paths), read_json(paths.outputs["result"])
    summary = read_json(paths.outputs["summary"])
    whole_lines = failures(paths, ValidateConfig(**MORE), **BAD)
    monkeypatch.setattr(table_parts, "PART_ROWS", 3)
    assert failures(paths, ValidateConfig(**MORE), **BAD) == whole_lines
    assert run(paths) == whole_report
    assert read_json(paths.outputs["result"]) == whole
    assert read_json(paths.outputs["summary"]) == summary
    assert (paths.outputs["docs"] / "index.html").is_file()
    assert len(list(paths.outputs["docs"].glob("part_*"))) == 3


@pytest.mark.parametrize("rows", [1, 3, 8, 100])
def test_parts_of_a_table_are_its_rows_in_order(paths, rows):
    run(paths, kept=[True] * 5 + [False] + [True] * 2)
    tables = list(store.read_parts(paths.root, paths.inputs["clips"], ["clip_id"], rows=rows, where="kept"))
    found = [clip_id for table in tables for clip_id in table["clip_id"].to_pylist()]
    assert found == [*GOOD["clip_id"][:5], *GOOD["clip_id"][6:]]
    assert all(table.num_rows == rows for table in tables[:-1])
