"""Files as archives hold them: odd sizes, clocks, containers and damage. None of them may stop a run."""

from fractions import Fraction

import av
import numpy as np
import pytest
from footage_workspace import make_root, run_stage
from test_file_kinds import FRAMES
from video_files import write_video

from components.data import store

ODD = [frame[:95, :127] for frame in FRAMES]
TWO_SHOTS = {
    "interlaced.mp4": {"options": {"x264-params": "tff=1:interlaced=1"}},
    "odd_size.mp4": {"frames": ODD, "pix_fmt": "yuv444p"},
    "odd_size.mkv": {"frames": ODD, "codec": "ffv1"},
    "b_frames.mkv": {"options": {"x264-params": "bframes=8:open-gop=1:keyint=12"}},
    "prores.mov": {"codec": "prores_ks", "pix_fmt": "yuv422p10le"},
    "old.avi": {"codec": "mpeg4"},
    "old.wmv": {"codec": "wmv2"},
    "grey.mp4": {"pix_fmt": "gray"},
    "clear.webm": {"codec": "libvpx-vp9", "pix_fmt": "yuva420p", "options": {"deadline": "realtime"}},
    "stream.ts": {"times": [90_000 + index / 24 for index in range(len(FRAMES))]},
    "late.mkv": {"times": [1e6 + index / 24 for index in range(len(FRAMES))]},
    "late.mp4": {"times": [1e5 + index / 24 for index in range(len(FRAMES))]},
    "early.mkv": {"times": [index / 24 - 5 for index in range(len(FRAMES))]},
    'a,b "c" ü [1] %20.mp4': {},
}
DAMAGED = ("b_frames.mkv", "stream.ts", "old.avi", "prores.mov", "interlaced.mp4", "clear.webm")


def damaged(data):
    """The file cut off, overwritten in the middle, with bits turned over, and without its head."""
    rng = np.random.default_rng(3)
    yield "cut", data[: len(data) // 2]
    third, half = len(data) // 3, len(data) // 2
    yield "spoilt", data[:third] + rng.bytes(half - third) + data[half:]
    turned = bytearray(data)
    for place in rng.integers(0, len(data), 60):
        turned[place] = int(rng.integers(256))
    yield "turned", bytes(turned)
    yield "headless", bytes(64) + data[64:]


def write_sound(path):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44_100)
        for index in range(40):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = 44_100, 1024 * index, Fraction(1, 44_100)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def write_all(folder):
    for name, known in TWO_SHOTS.items():
        options = {"fps": 24, **known}
        write_video(folder / name, options.pop("frames", FRAMES), **options)
    paused = [index / 24 + (3600 if index > 36 else 0) for index in range(len(FRAMES))]
    write_video(folder / "paused.mp4", FRAMES, times=paused, fps=24)
    write_video(folder / "flat.mp4", [frame[:2] for frame in FRAMES], fps=24)
    write_video(folder / "thin.mp4", [frame[:, :2] for frame in FRAMES], fps=24)
    write_video(folder / "dot.mp4", [frame[:2, :2] for frame in FRAMES], fps=24)
    write_video(folder / "one.mp4", FRAMES[:1], fps=24)
    write_video(folder / "one.mkv", FRAMES[:1], fps=24)
    write_video(folder / "before_zero.mp4", FRAMES, times=[index / 24 - 5 for index in range(72)], fps=24)
    write_sound(folder / "sound.mp4")
    rng = np.random.default_rng(4)
    contents = {
        "empty.mp4": b"",
        "zeros.mp4": bytes(5000),
        "noise.mkv": rng.bytes(5000),
        "archive.avi": b"PK\x03\x04" + rng.bytes(500),
        "page.webm": b"<html><body>not found</body></html>",
        "box.mp4": b"\0\0\0\x18ftypmp42" + bytes(12) + rng.bytes(3000),
    }
    for name in DAMAGED:
        suffix = name.partition(".")[2]
        for how, data in damaged((folder / name).read_bytes()):
            contents[f"{how}_{name.partition('.')[0]}.{suffix}"] = data
    for name, data in contents.items():
        (folder / name).write_bytes(data)


@pytest.fixture(scope="module")
def curated_odd(tmp_path_factory):
    root = make_root(
        tmp_path_factory.mktemp("odd"), ingest__max_unreadable_share=1.0, filter__max_rejected_share=1.0
    )
    folder = root / "data" / "footage"
    folder.mkdir(parents=True)
    write_all(folder)
    stages = ("ingest", "split", "score", "filter", "caption", "dedup")
    return root, {name: run_stage(root, name) for name in stages}


def rows(root, stage):
    return store.read(root, root / "artifacts" / "clips" / f"{stage}.json").to_pylist()


@pytest.mark.parametrize("name", TWO_SHOTS)
def test_both_shots_of_a_good_file_are_whole(curated_odd, name):
    clips = sorted(
        (row["start_seconds"], row["frames"], row["motion"] is not None)
        for row in rows(curated_odd[0], "score")
        if row["source"] == name
    )
    assert [(frames, scored) for _, frames, scored in clips] == [(36, True)] * 2
    assert [start for start, _, _ in clips] == pytest.approx([0.0, 1.5], abs=0.002)


def test_every_file_ends_as_clips_or_as_a_named_reason(curated_odd):
    root, reports = curated_odd
    files = {path.name for path in (root / "data" / "footage").iterdir()}
    refused = {row["source"]: row["reasons"] for row in rows(root, "ingest") if row["reasons"]}
    clipped = {row["source"] for row in rows(root, "split")}
    noted = {note.split(":")[0] for note in reports["split"].notes}
    short = reports["split"].balance["files"].get("too_short", 0)
    assert files >= refused.keys() | clipped | noted
    assert len(files - refused.keys() - clipped - noted) == short
    assert refused.keys() >= {"empty.mp4", "zeros.mp4", "noise.mkv", "archive.avi", "page.webm", "box.mp4"}
    assert refused["sound.mp4"] == ["no_video"]
    assert reports["ingest"].balance["files"]["in"] == len(files)
    reasons = {reason for name in ("ingest", "split", "score") for reason in reports[name].reasons}
    assert not reasons & {"crashed", "timed_out"}


def test_strips_have_no_scores_and_a_reason(curated_odd):
    root, reports = curated_odd
    assert reports["score"].reasons["too_flat"] == 4
    unscored = {row["source"] for row in rows(root, "score") if row["motion"] is None}
    assert unscored == {"flat.mp4", "thin.mp4"}


def test_a_recording_that_was_interrupted_is_two_shots_without_the_pause(curated_odd):
    clips = [row for row in rows(curated_odd[0], "score") if row["source"] == "paused.mp4"]
    spans = sorted((row["start_seconds"], row["end_seconds"]) for row in clips)
    assert [end - start for start, end in spans] == pytest.approx([1.5, 35 / 24], abs=0.01)
    assert spans[1][0] > 3600
    assert all(row["fps"] == pytest.approx(24, rel=0.05) for row in clips)
