"""Files of every kind through ingest and split: what is found out about them, and what becomes of them."""

import json
from fractions import Fraction

import av
import numpy as np
import pytest
from footage_workspace import make_root, run_stage
from video_files import counter_frame, read_counter, write_video

from components.data import store
from components.data.frames import read_frames
from components.data.probe import has_variable_rate, probe


def write_counter(path, frames=20, seed=0, **more):
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_video(path, [counter_frame(seed + index) for index in range(frames)], **more)


def write_image(path, seed=0, height=64, width=160):
    """A picture, by the encoder that its suffix asks for."""
    path.parent.mkdir(parents=True, exist_ok=True)
    codec, pix_fmt = {
        ".png": ("png", "rgb24"),
        ".jpg": ("mjpeg", "yuvj420p"),
        ".webp": ("libwebp", "yuv420p"),
    }[path.suffix]
    context = av.CodecContext.create(codec, "w")
    context.height, context.width, context.pix_fmt = height, width, pix_fmt
    context.time_base = Fraction(1, 25)
    frame = av.VideoFrame.from_ndarray(counter_frame(seed, height, width), format="rgb24").reformat(
        format=pix_fmt
    )
    path.write_bytes(b"".join(bytes(packet) for packet in [*context.encode(frame), *context.encode(None)]))
    return path


def rows(root, stage):
    return store.read(root, root / "artifacts" / "clips" / f"{stage}.json").to_pylist()


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_rotation_is_a_fact_about_a_file(tmp_path, degrees):
    found = probe(write_counter(tmp_path / "a.mp4", rotation=degrees))
    assert found.rotation == degrees
    assert (found.width, found.height) == ((64, 160) if degrees % 180 else (160, 64))


def test_ten_bits_and_the_curves_of_high_dynamic_range_are_facts(tmp_path):
    plain = probe(write_counter(tmp_path / "a.mp4"))
    assert (plain.bits, plain.transfer, plain.variable_rate) == (8, "sdr", False)
    for name, curve in (("pq", "smpte2084"), ("hlg", "arib-std-b67")):
        options = {"x265-params": f"colorprim=bt2020:transfer={curve}:colormatrix=bt2020nc:log-level=none"}
        path = write_counter(
            tmp_path / f"{name}.mp4", codec="libx265", pix_fmt="yuv420p10le", options=options
        )
        found = probe(path)
        assert (found.bits, found.transfer, found.reason) == (10, name, "")


def test_a_variable_frame_rate_is_told_from_a_late_frame_and_from_rounded_clocks(tmp_path):
    times = list(np.cumsum([0.0] + [0.04, 0.04, 0.12] * 10))
    assert probe(write_counter(tmp_path / "a.mp4", frames=31, times=times)).variable_rate
    steady = [index / 30 for index in range(300)]
    assert not has_variable_rate(steady)
    assert not has_variable_rate([round(time, 3) for time in steady])  # Matroska
    assert not has_variable_rate([*steady[:150], *(time + 1 for time in steady[150:])])
    assert not has_variable_rate([0.0])


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
def test_an_image_is_a_source_of_one_frame(tmp_path, suffix):
    found = probe(write_image(tmp_path / f"a{suffix}"))
    assert (found.frames, found.width, found.height, found.reason) == (1, 160, 64, "")


def test_images_go_through_the_filter_beside_videos_and_are_not_asked_how_they_move(tmp_path):
    root = make_root(tmp_path, ingest__images=True, filter__min_motion=0.0001, dedup__max_cosine=0.9999)
    videos = root / "data" / "footage"
    write_counter(videos / "moving.mp4", frames=50)
    for index, name in enumerate(("a.png", "b.jpg", "c.webp")):
        write_image(videos / name, seed=40 + 17 * index)
    (videos / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"\0" * 40)
    ingest = run_stage(root, "ingest")
    assert ingest.counts["usable"] == 4
    assert ingest.balance["files"] == {"in": 5, "kept": 4, "unreadable": 1}
    for stage in ("split", "score", "filter"):
        report = run_stage(root, stage)
    pictures = [row for row in rows(root, "filter") if not row["source"].endswith(".mp4")]
    assert {row["source"]: (row["frames"], row["reasons"]) for row in pictures} == {
        name: (1, []) for name in ("a.png", "b.jpg", "c.webp")
    }
    assert report.balance["clips"]["in"] == len(rows(root, "filter"))
    for stage in ("caption", "dedup"):
        run_stage(root, stage)
    assert all(row["kept"] for row in rows(root, "dedup") if row["source"] in {"a.png", "b.jpg", "c.webp"})


def test_spans_of_a_manifest_are_cut_at_their_frames_and_the_shot_detector_is_not_asked(tmp_path):
    root = make_root(
        tmp_path, ingest__manifest="meta.jsonl", split__min_seconds=0.5, ingest__max_unreadable_share=1.0
    )
    videos = root / "data" / "footage"
    write_counter(videos / "deep" / "abc.mp4", frames=100)  # 4 s at 25 frames a second
    spans = [
        ["00:00:00.400", "00:00:01.200"],
        ["00:00:02.000", "00:00:02.100"],
        ["00:00:09.000", "00:00:10.000"],
    ]
    clips = [{"clip_id": f"abc.{index}.mp4", "span": span} for index, span in enumerate(spans)]
    gone = {"video_id": "gone", "clip": clips[:1]}
    lines = [json.dumps({"video_id": "abc", "clip": clips}), json.dumps(gone)]
    (videos / "meta.jsonl").write_text("\n".join(lines))
    report = run_stage(root, "ingest")
    assert report.balance["files"] == {"in": 2, "kept": 1, "missing_file": 1}
    assert {row["source"]: row["spans"] for row in rows(root, "ingest")}["deep/abc.mp4"] == [
        [0.4, 1.2],
        [2.0, 2.1],
        [9.0, 10.0],
    ]
    report = run_stage(root, "split")
    assert report.balance["pieces"] == {"in": 3, "kept": 1, "too_short": 1, "no_frames": 1}
    (clip,) = rows(root, "split")
    assert (clip["start_seconds"], clip["end_seconds"], clip["frames"]) == (0.4, 1.2, 20)
    size = {"fps": 25, "height": 64, "width": 160}
    frames = read_frames(videos / "deep/abc.mp4", clip["start_seconds"], clip["end_seconds"], **size)
    assert [read_counter(frame) for frame in frames] == list(range(10, 30))


def test_licence_and_split_of_a_manifest_win_over_those_of_a_sidecar(tmp_path):
    root = make_root(tmp_path, ingest__manifest="list.csv")
    videos = root / "data" / "footage"
    for index, name in enumerate("ab"):
        write_counter(videos / f"{name}.mp4", seed=9 * index)
        (videos / f"{name}.json").write_text('{"split": "train", "licence": "CC0-1.0"}')
    (videos / "list.csv").write_text("path,licence,split\na.mp4,CC-BY-4.0,validation\nb.mp4,,\n")
    run_stage(root, "ingest")
    found = {row["source"]: (row["licence"], row["split"]) for row in rows(root, "ingest")}
    assert found == {"a.mp4": ("CC-BY-4.0", "validation"), "b.mp4": ("CC0-1.0", "train")}
