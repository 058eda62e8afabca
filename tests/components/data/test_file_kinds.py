"""Files as they come from cameras, phones and broken disks: each ends as clips or as a named reason."""

from dataclasses import replace

import numpy as np
import pytest
from footage_workspace import SCENE, make_root, run_stage
from video_files import write_video

from components.data import store
from components.data.synthetic import render_scene

ONE = replace(SCENE, background="pale sand", width=128, frames=36, seed=31, fps=24)
FRAMES = [*render_scene(ONE), *render_scene(replace(ONE, background="dark slate", colour="blue", seed=32))]
CODECS = {
    "h264": ("libx264", "yuv420p", {}),
    "h264_10bit": ("libx264", "yuv420p10le", {}),
    "h265": ("libx265", "yuv420p", {"x265-params": "log-level=error"}),
    "h265_10bit": ("libx265", "yuv420p10le", {"x265-params": "log-level=error"}),
    "av1": ("libsvtav1", "yuv420p", {"preset": "10", "svtav1-params": "lp=1"}),
    "vp9": ("libvpx-vp9", "yuv420p", {"cpu-used": "8", "deadline": "realtime"}),
}


def uneven_times():
    """Half at 12 frames a second, half at 48, as a phone in bad light does."""
    gaps = np.where(np.arange(len(FRAMES)) % 2 == 0, 1 / 48, 1 / 16)
    return [0.0, *np.cumsum(gaps)[:-1].tolist()]


@pytest.fixture(scope="module")
def curated_kinds(tmp_path_factory):
    root = make_root(tmp_path_factory.mktemp("kinds"), ingest__max_unreadable_share=1.0)
    videos = root / "data" / "footage"
    videos.mkdir(parents=True)
    for name, (codec, pixels, options) in CODECS.items():
        write_video(videos / f"{name}.mp4", FRAMES, fps=24, codec=codec, pix_fmt=pixels, options=options)
    write_video(videos / "rotated.mp4", FRAMES, fps=24, rotation=90)
    write_video(videos / "uneven.mp4", FRAMES, times=uneven_times(), fps=24)
    whole = (videos / "h264.mp4").read_bytes()
    (videos / "cut_off.mp4").write_bytes(whole[: len(whole) // 2])
    (videos / "empty.mp4").write_bytes(b"")
    (videos / "text.mp4").write_text("this is a text")
    spoilt = bytearray(whole)
    middle = slice(len(whole) // 3, 2 * len(whole) // 3)
    spoilt[middle] = np.random.default_rng(1).bytes(middle.stop - middle.start)
    (videos / "spoilt.mp4").write_bytes(bytes(spoilt))
    return root, {name: run_stage(root, name) for name in ("ingest", "split", "score")}


def rows(root, stage):
    return store.read(root, root / "artifacts" / "clips" / f"{stage}.json").to_pylist()


@pytest.mark.parametrize("name", [*CODECS, "rotated", "uneven"])
def test_a_good_file_becomes_its_two_shots_whatever_it_is_written_in(curated_kinds, name):
    root, _ = curated_kinds
    clips = [row for row in rows(root, "score") if row["source"] == f"{name}.mp4"]
    assert [row["frames"] for row in clips] == [36, 36]
    assert all(row["sharpness"] is not None for row in clips)
    size = (128, 96) if name == "rotated" else (96, 128)
    assert {(row["height"], row["width"]) for row in clips} == {size}


def test_every_file_ends_as_clips_or_as_a_named_reason(curated_kinds):
    root, reports = curated_kinds
    files = {path.name for path in (root / "data" / "footage").iterdir()}
    refused = {row["source"] for row in rows(root, "ingest") if row["reasons"]}
    clipped = {row["source"] for row in rows(root, "split")}
    noted = {note.split(":")[0] for note in reports["split"].notes}
    assert refused | clipped | noted == files
    assert refused >= {"cut_off.mp4", "empty.mp4", "text.mp4"}
