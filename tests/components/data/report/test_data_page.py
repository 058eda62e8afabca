"""The data report as a person gets it: its account balances, and it opens from disk with nothing around it."""

import base64
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from footage_workspace import make_root, run_stage

from components.artifacts import write_json
from components.data import store
from components.data.encode_pictures import write_png
from components.data.report.data_set import DataSet
from components.data.report.distributions import Threshold, histogram
from components.data.report.near_misses import EACH_SIDE, near_misses
from components.data.report.page import write_data_report
from components.data.report.reasons import balance
from components.data.report.words import caption_facts, source_shares
from components.errors import ContractError
from components.page.charts import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH
from tests.pages import VIEWPORTS, check_all_videos_play, check_opens_quietly_and_fits

STAGES = ("footage", "ingest", "split", "score", "filter", "caption", "dedup")


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    root = make_root(tmp_path_factory.mktemp("page"))
    for name in STAGES:
        run_stage(root, name).write(root / "reports" / f"{name}.json")
    return root


@pytest.fixture(scope="module")
def page_path(workspace):
    return write_data_report(workspace)


def without_pictures(text):
    """The encoder of the thumbnails does not always write the same bytes."""
    return re.sub(r"data:video/mp4;base64,[\w+/=]+", "", text)


def test_the_page_stands_alone_and_is_the_same_each_time(page_path, workspace):
    text = page_path.read_text()
    assert "http://" not in text.replace("http://www.w3.org", "")
    assert "https://" not in text
    assert str(workspace) not in text
    assert without_pictures(write_data_report(workspace).read_text()) == without_pictures(text)


def test_the_account_of_all_clips_balances(workspace):
    data = DataSet.load(workspace)
    found = balance(data)
    rows = store.read(workspace, workspace / "artifacts/clips/dedup.json").to_pylist()
    assert found.holds
    assert found.clips == len(rows)
    assert found.kept == sum(row["kept"] for row in rows)
    for row in found.rows:
        code = row.name.replace(" ", "_")
        assert row.clips == sum(code in each["reasons"] for each in rows)
        assert row.only == sum(each["reasons"] == [code] for each in rows)


def test_a_clip_in_another_language_was_rejected_and_not_unreadable(workspace):
    rows = [
        {"reasons": [], "caption_reasons": [], "duplicate_of": None, "kept": True},
        {"reasons": ["blurry"], "caption_reasons": ["foreign_language"], "duplicate_of": None, "kept": False},
        {"reasons": [], "caption_reasons": ["foreign_language"], "duplicate_of": None, "kept": False},
        {"reasons": [], "caption_reasons": [], "duplicate_of": "a", "kept": False},
        {"reasons": [], "caption_reasons": [], "duplicate_of": None, "kept": False},
    ]
    texts = pa.list_(pa.string())
    kinds = {
        "reasons": texts,
        "caption_reasons": texts,
        "duplicate_of": pa.string(),
        "kept": pa.bool_(),
    }
    found = balance(replace(DataSet.load(workspace), table=pa.Table.from_pylist(rows, pa.schema(kinds))))
    assert (found.kept, found.rejected, found.duplicates, found.unread) == (1, 2, 1, 1)
    counts = {row.name: (row.clips, row.only) for row in found.rows}
    assert counts["foreign language"] == (2, 1)
    assert counts["blurry"] == (1, 0)


def test_near_misses_are_the_clips_nearest_to_the_threshold_on_both_sides(workspace):
    data = DataSet.load(workspace)
    part = next(part for part in near_misses(data, workspace / "data/footage") if part.title == "motion")
    threshold = np.float32(data.params.filter.min_motion)
    rows = store.read(workspace, workspace / "artifacts/clips/dedup.json", ["clip_id", "motion"]).to_pylist()
    ordered = sorted(rows, key=lambda row: abs(row["motion"] - threshold))
    below = [row["clip_id"] for row in ordered if np.float32(row["motion"]) < threshold]
    above = [row["clip_id"] for row in ordered if np.float32(row["motion"]) >= threshold]
    assert [clip.clip_id for clip in part.rejected] == below[:EACH_SIDE]
    assert [clip.clip_id for clip in part.kept] == above[:EACH_SIDE]
    assert all(clip.video.startswith("data:video/mp4;base64,") for clip in part.kept)


def test_a_clip_whose_file_is_gone_costs_its_picture(workspace, tmp_path):
    parts = near_misses(DataSet.load(workspace), tmp_path / "moved")
    assert parts
    assert all(clip.video == "" and clip.note for part in parts for clip in part.kept)


def test_shares_of_sources_and_captions_add_up(workspace):
    data = DataSet.load(workspace)
    shares = source_shares(data)
    assert sum(share.kept for share in shares) == int(data.kept.sum())
    assert sum(share.share for share in shares) == pytest.approx(1)
    facts = caption_facts(data)
    assert sum(count for _, count in facts.origins) == int(data.kept.sum())


def test_contact_sheets_of_an_encode_stand_in_the_page(workspace, tmp_path):
    root = Path(shutil.copytree(workspace, tmp_path / "copy"))
    folder = root / "artifacts/latent_pictures/videos"
    folder.mkdir(parents=True)
    write_png(folder / "a.png", np.zeros((4, 6, 3), np.uint8))
    lines = [{"clip_id": "0", "window": 0, "variant": "plain", "psnr": each} for each in (20.0, 30.0)]
    write_json(folder / "pictures.json", [{"file": "a.png", "bucket": "32px 9x32x32", "lines": lines}])
    text = write_data_report(root).read_text()
    (picture,) = re.findall(r"data:image/png;base64,([\w+/=]+)", text)
    assert base64.b64decode(picture) == (folder / "a.png").read_bytes()
    assert "<b>videos 32px 9x32x32</b> 25.0 dB" in text


def test_a_set_that_is_not_finished_says_so(workspace, tmp_path):
    root = make_root(tmp_path / "early")
    with pytest.raises(ContractError, match="reelforge run"):
        write_data_report(root)
    (root / "store").symlink_to(workspace / "store")
    (root / "artifacts/clips").mkdir(parents=True)
    source = workspace / "artifacts/clips/score.json"
    (root / "artifacts/clips/score.json").write_bytes(source.read_bytes())
    assert "not finished" in write_data_report(root).read_text()


@pytest.mark.parametrize("values", [[], [np.nan], [0.5], [0.0] * 9, [1e-9, 1e9], [-3.0, 2.0, np.nan]])
def test_any_distribution_is_drawn_inside_its_frame(values):
    scores = np.array(values, dtype=np.float64)
    lines = [Threshold("min", 0.4, "min"), Threshold("max", 1e30, "max")]
    chart = str(histogram(scores, np.ones(len(scores), bool), lines, label="<score>"))
    assert "&lt;score&gt;" in chart
    for x, y, width, height in re.findall(
        r'<rect class="\w+" x="([\d.-]+)" y="([\d.-]+)" width="([\d.-]+)" height="([\d.-]+)"', chart
    ):
        assert LEFT - 0.1 <= float(x) <= float(x) + float(width) <= WIDTH - RIGHT + 0.1
        assert TOP - 0.1 <= float(y) <= float(y) + float(height) <= HEIGHT - BOTTOM + 0.1


@pytest.mark.slow
@pytest.mark.parametrize(("width", "scheme"), VIEWPORTS, ids=str)
def test_the_page_opens_without_errors_or_requests_and_fits_its_window(browser, page_path, width, scheme):
    check_opens_quietly_and_fits(browser, page_path, width, scheme)


@pytest.mark.slow
def test_every_thumbnail_plays(browser, page_path):
    assert check_all_videos_play(browser, page_path) > 0
