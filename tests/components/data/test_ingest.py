import json
import shutil
from collections import Counter

import numpy as np
import pytest
from footage_workspace import make_root, run_stage
from video_files import counter_frame, write_video

from components.data import store
from components.data.config import IngestConfig
from components.data.ingest import share_set_aside, split_of
from components.data.probe import probe
from components.errors import DataQualityError, UserError

CONFIG = IngestConfig(videos="data/footage", validation_share=0.3, seed=1, max_unreadable_share=0.5)


def sources(root):
    rows = store.read(root, root / "artifacts" / "clips" / "ingest.json").to_pylist()
    return {row["source"]: row for row in rows}


def write_counter(path, frames=20, seed=0, **more):
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_video(path, [counter_frame(seed + index) for index in range(frames)], **more)


def write_sound(path):
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(
            np.zeros((1, 16_000), dtype=np.float32), format="fltp", layout="mono"
        )
        frame.sample_rate = 16_000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())


def cut(path, share):
    with path.open("r+b") as file:
        file.truncate(int(share * path.stat().st_size))


@pytest.fixture(scope="module")
def odd_bag(tmp_path_factory):
    """A workspace with one file of every kind that a folder of videos may hold, ingested."""
    root = make_root(tmp_path_factory.mktemp("bag"), ingest__max_unreadable_share=0.9)
    videos = root / "data" / "footage"
    write_counter(videos / "good.mp4", fps=10)
    write_counter(videos / "deep" / "er" / "GOOD.MKV", seed=1)
    shutil.copy(videos / "good.mp4", videos / "same.mp4")
    (videos / "empty.mp4").touch()
    (videos / "noise.avi").write_bytes(np.random.default_rng(0).bytes(5_000))
    write_sound(videos / "sound.mp4")
    cut(write_counter(videos / "index_lost.mp4", seed=2), 0.5)
    cut(write_counter(videos / "half.mkv", frames=200, seed=3), 0.5)
    write_counter(videos / "fast_start.mp4", seed=4)
    cut(write_counter(videos / "odd_sidecar.webm", codec="libvpx-vp9", seed=5), 1.0)
    (videos / "odd_sidecar.json").write_text(json.dumps({"split": "test"}))
    (videos / "good.json").write_text(json.dumps({"split": "validation", "licence": "CC0-1.0"}))
    (videos / "notes.txt").write_text("not a video")
    (videos / ".hidden.mp4").touch()
    report = run_stage(root, "ingest")
    return root, report, sources(root)


@pytest.mark.parametrize(
    ("source", "reasons"),
    [
        ("good.mp4", []),
        ("deep/er/GOOD.MKV", []),
        ("fast_start.mp4", []),
        ("same.mp4", ["exact_duplicate"]),
        ("empty.mp4", ["zero_length"]),
        ("noise.avi", ["unreadable"]),
        ("sound.mp4", ["no_video"]),
        ("index_lost.mp4", ["truncated"]),
        ("half.mkv", ["truncated"]),
        ("odd_sidecar.webm", ["bad_sidecar"]),
    ],
)
def test_each_file_has_its_reason(odd_bag, source, reasons):
    row = odd_bag[2][source]
    assert row["reasons"] == reasons
    assert bool(row["detail"]) == bool(reasons)


def test_files_that_are_no_videos_have_no_row(odd_bag):
    assert len(odd_bag[2]) == 10


def test_facts_come_from_the_frames(odd_bag):
    row = odd_bag[2]["good.mp4"]
    assert (row["codec"], row["width"], row["height"], row["frames"]) == ("h264", 160, 64, 20)
    assert row["fps"] == pytest.approx(10)
    assert row["seconds"] == pytest.approx(2.0)


def test_split_and_licence_come_from_the_sidecar(odd_bag):
    assert (odd_bag[2]["good.mp4"]["split"], odd_bag[2]["good.mp4"]["licence"]) == ("validation", "CC0-1.0")
    assert odd_bag[2]["deep/er/GOOD.MKV"]["licence"] == "unknown"


def test_counts_balance(odd_bag):
    _, report, rows = odd_bag
    counts = report.counts
    assert counts["files"] == len(rows) == counts["usable"] + counts["rejected"]
    assert counts["rejected"] == sum(report.reasons.values())
    assert counts["usable"] == counts["train"] + counts["validation"]
    assert report.reasons == dict(Counter(row["reasons"][0] for row in rows.values() if row["reasons"]))


def test_a_truncated_file_of_the_footage_is_named(curated):
    assert curated.reports["ingest"].reasons == {"truncated": 1}
    sidecars = {path.stem: json.loads(path.read_text()) for path in curated.videos.glob("*.json")}
    for source, row in sources(curated.root).items():
        kind = sidecars[source.removesuffix(".mp4")]["kind"]
        assert row["reasons"] == (["truncated"] if kind == "truncated" else [])


def test_a_second_ingest_writes_an_equal_manifest(curated):
    path = curated.root / "artifacts" / "clips" / "ingest.json"
    before = path.read_bytes()
    run_stage(curated.root, "ingest")
    assert path.read_bytes() == before


def test_a_source_keeps_its_split_and_the_share_is_met():
    digests = [f"{index:064x}" for index in range(4000)]
    splits = [split_of(digest, 1, 0.3) for digest in digests]
    assert splits == [split_of(digest, 1, 0.3) for digest in digests]
    assert splits.count("validation") / len(splits) == pytest.approx(0.3, abs=0.03)
    assert splits != [split_of(digest, 2, 0.3) for digest in digests]


def test_a_set_too_small_to_spare_a_file_is_all_for_training():
    assert share_set_aside(CONFIG.model_copy(update={"validation_share": 0.1}), files=9) == 0.0
    assert share_set_aside(CONFIG.model_copy(update={"validation_share": 0.1}), files=10) == 0.1


def test_a_larger_share_moves_sources_into_validation_only():
    digests = [f"{index:064x}" for index in range(500)]
    small, large = (
        {digest for digest in digests if split_of(digest, 1, share) == "validation"} for share in (0.1, 0.4)
    )
    assert small < large


def test_a_turned_file_has_the_size_it_is_shown_in(tmp_path):
    path = write_counter(tmp_path / "turned.mp4", rotation=90)
    found = probe(path)
    assert (found.width, found.height) == (64, 160)


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda videos: None, "does not exist"),
        (lambda videos: videos.mkdir(parents=True), "is empty"),
        (lambda videos: [videos.mkdir(parents=True), (videos / "a.txt").touch()], r"looked for \.mp4, \.mov"),
        (lambda videos: [videos.mkdir(parents=True), (videos / "a.mp4").touch()], "none of the 1 videos"),
    ],
)
def test_a_folder_without_a_usable_video_says_the_way_out(tmp_path, prepare, message):
    root = make_root(tmp_path)
    prepare(root / "data" / "footage")
    with pytest.raises(UserError, match=message) as error:
        run_stage(root, "ingest")
    assert "ingest.videos" in str(error.value)


def test_too_many_unusable_files_fail_the_stage_by_name(tmp_path):
    root = make_root(tmp_path, ingest__max_unreadable_share=0.5)
    write_counter(root / "data" / "footage" / "good.mp4")
    for name in ("a.mp4", "b.mp4"):
        (root / "data" / "footage" / name).touch()
    with pytest.raises(DataQualityError, match=r"ingest: 2 of 3 .*\n  a\.mp4: zero_length"):
        run_stage(root, "ingest")
