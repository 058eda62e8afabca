"""Captions by a model, stage and all: no clip is asked about twice, and what fails is named."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
import yaml
from caption_server import Reply, caption, serving

from components.artifacts import StagePaths, read_json
from components.data import caption as stage
from components.data import store
from components.data.captioning.answers import Answers
from components.data.config import CaptionConfig, VisionConfig
from components.errors import DataQualityError, UserError

ROOT = Path(__file__).parents[4]
VISION = {"model": "tiny", "prompt": "What is seen?", "frames": 2, "side": 64}
CLIPS = 6


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    import numpy as np

    folder = tmp_path_factory.mktemp("videos")
    for index in range(CLIPS):
        pixels = np.full((8, 64, 64, 3), 30 * index + 20, np.uint8)
        write(folder / f"{index}.mp4", pixels)
    return folder


def write(path, pixels):
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=8)
        stream.height, stream.width, stream.pix_fmt = 64, 64, "yuv420p"
        for frame in pixels:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


@pytest.fixture
def workspace(tmp_path, videos):
    """Six clips: 0 has a caption of its own, 5 does not pass the filter."""
    raw = yaml.safe_load((ROOT / "params.yaml").read_text())
    raw["ingest"]["videos"] = "videos"
    raw["runtime"] |= {"caption_requests": 2, "caption_seconds": 5, "caption_retries": 0}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(raw))
    (tmp_path / "videos").symlink_to(videos)
    (tmp_path / "captions.csv").write_text("path,text\n0.mp4,by hand\n")
    table = pa.table(
        {
            "clip_id": [f"{index:016x}" for index in range(CLIPS)],
            "source": [f"{index}.mp4" for index in range(CLIPS)],
            "start_seconds": [0.0] * CLIPS,
            "end_seconds": [1.0] * CLIPS,
            "aesthetic": pa.array([5.52] * CLIPS, pa.float32()),
            "reasons": pa.array([[]] * (CLIPS - 1) + [["blurry"]], pa.list_(pa.string())),
        }
    )
    store.create(tmp_path, "clips", table, "filter").write(tmp_path / "filter.json")
    return tmp_path


def set_endpoint(root, url):
    raw = yaml.safe_load((root / "params.yaml").read_text())
    raw["runtime"]["caption_endpoint"] = url
    (root / "params.yaml").write_text(yaml.safe_dump(raw))


def run(root, **more):
    vision = VisionConfig(**{**VISION, **more.pop("vision", {})})
    config = CaptionConfig(source="captions.csv", fallback="a video", max_words=30, vision=vision, **more)
    paths = StagePaths(
        root,
        {"clips": root / "filter.json", "captions": root / "captions.csv", "videos": root / "videos"},
        {"clips": root / "caption.json"},
        root,
    )
    report = stage.run(config, paths)
    return report, store.read(root, root / "caption.json").to_pylist()


def test_a_model_captions_the_clips_that_pass_and_have_none(workspace):
    def answer(number, _):
        return replace(caption(f"Sure! The video shows <b>thing</b> {number}."), seconds=0.2)

    with serving(answer) as log:
        set_endpoint(workspace, log.url)
        report, rows = run(workspace)
    assert [row["caption_source"] for row in rows] == ["file", *["model"] * 4, "fallback"]
    assert {row["caption"] for row in rows[1:5]} == {f"thing {n}." for n in range(4)}
    assert report.counts == {"clips": 5, "file": 1, "sidecar": 0, "model": 4, "fallback": 0}
    assert log.most == 2  # requests under way at a time


def test_no_clip_is_asked_about_twice_unless_the_question_changes(workspace):
    with serving(lambda n, _: caption(f"answer {n}")) as log:
        set_endpoint(workspace, log.url)
        _, first = run(workspace)
        (workspace / "caption.json").unlink()
        _, again = run(workspace)
        assert again == first
        assert len(log.requests) == 4
        run(workspace, vision={"prompt": "And now?"})
        run(workspace, vision={"model": "other"})
    assert len(log.requests) == 12


def test_clips_that_failed_are_named_and_asked_about_again(workspace):
    with serving(lambda n, _: Reply(500, {}) if n in (1, 2) else caption("fine")) as log:
        set_endpoint(workspace, log.url)
        with pytest.raises(DataQualityError, match=r"no caption for 2 of 4 clips: .'caption_unavailable': 2"):
            run(workspace)
        report, _ = run(workspace)
    assert len(log.requests) == 4 + 2
    assert report.counts["model"] == 4


def test_a_share_of_failures_may_be_allowed_and_falls_back(workspace):
    with serving(lambda n, _: Reply(500, {}) if n == 0 else caption("fine")) as log:
        set_endpoint(workspace, log.url)
        report, rows = run(workspace, vision={"max_failed_share": 0.5})
    assert report.reasons == {"caption_unavailable": 1}
    assert report.counts["fallback"] == 1
    assert sum(row["caption"] == "a video" for row in rows) == 2  # and the clip that was rejected


def test_a_spent_budget_is_named_and_the_next_run_goes_on(workspace):
    with serving(lambda *_: caption("fine")) as log:
        set_endpoint(workspace, log.url)
        with pytest.raises(DataQualityError, match="caption_over_budget"):
            run(workspace, vision={"max_requests": 3})
        report, _ = run(workspace, vision={"max_requests": 3})
    assert len(log.requests) == 4
    assert report.counts["model"] == 4


def test_a_model_that_is_nowhere_is_refused_before_a_clip_is_read(workspace):
    with pytest.raises(UserError, match=r"runtime\.caption_endpoint"):
        run(workspace)
    with pytest.raises(UserError, match="holds no model"):
        run(workspace, vision={"weights": "nowhere"})


def test_a_clip_that_cannot_be_decoded_costs_its_caption(workspace, videos):
    (workspace / "videos").unlink()
    (workspace / "videos").mkdir()
    for index in range(CLIPS):
        content = (videos / f"{index}.mp4").read_bytes()
        (workspace / "videos" / f"{index}.mp4").write_bytes(content if index != 2 else b"no video")
    with serving(lambda *_: caption("fine")) as log:
        set_endpoint(workspace, log.url)
        report, _ = run(workspace, vision={"max_failed_share": 0.5})
    assert report.reasons == {"unreadable": 1}


ENDING = "aesthetic score: 5.5."


def test_scores_are_put_at_the_end_of_a_second_form_and_other_languages_are_left_out(workspace):
    said = {
        0: "eine Katze auf dem Tisch und ein Hund",
        1: "a cat on the table",
        2: "cat",
        3: "a dog in the sun",
    }
    with serving(lambda n, _: caption(said[n])) as log:
        set_endpoint(workspace, log.url)
        report, rows = run(workspace, language="en", suffixes=["aesthetic"])
    assert [row["scored_caption"] for row in rows] == [f"{row['caption']}. {ENDING}" for row in rows]
    foreign = [row for row in rows if row["caption_reasons"]]
    assert [row["caption"] for row in foreign] == [said[0]]
    assert report.reasons == {"foreign_language": 1}
    with pytest.raises(UserError, match="camera"):
        run(workspace, suffixes=["camera"])


def test_half_a_line_is_asked_about_again_and_harms_no_other(tmp_path):
    path = tmp_path / "answers.jsonl"
    Answers(path).add("a", "one")
    with path.open("a") as stream:
        stream.write(json.dumps({"clip_id": "b", "text": "two"})[:-4])
    answers = Answers(path)
    assert (answers.get("a"), answers.get("b")) == ("one", None)
    answers.add("b", "three")
    assert (Answers(path).get("a"), Answers(path).get("b")) == ("one", "three")


PROGRAM = """
import sys
from pathlib import Path
sys.path[:0] = [{root!r}, {here!r}]
import test_write
test_write.run(Path({workspace!r}))
"""


def test_a_killed_run_goes_on_where_it_was(workspace):
    def slowly(number, _):
        return replace(caption(f"answer {number}"), seconds=0.3)

    with serving(slowly) as log:
        set_endpoint(workspace, log.url)
        program = PROGRAM.format(root=str(ROOT), here=str(Path(__file__).parent), workspace=str(workspace))
        process = subprocess.Popen([sys.executable, "-c", program], start_new_session=True)
        deadline = time.monotonic() + 60
        while len(list((workspace / "store/captions").glob("*"))) == 0 and time.monotonic() < deadline:
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        (path,) = (workspace / "store/captions").glob("*.jsonl")
        kept = dict(Answers(path)._texts)
        assert 0 < len(kept) < 4
        assert not (workspace / "caption.json").exists()
        before = len(log.requests)
        report, rows = run(workspace)
    assert len(log.requests) - before == 4 - len(kept)
    assert report.counts["model"] == 4
    assert all(row["caption"] == kept[row["clip_id"]] for row in rows if row["clip_id"] in kept)
    assert read_json(workspace / "caption.json")["rows"] == CLIPS
