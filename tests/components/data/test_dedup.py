"""Near-duplicates: the same clip encoded again is found, another clip on a like background is not."""

from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pytest
from footage_workspace import SCENE
from hypothesis import given
from hypothesis import strategies as st

from components.artifacts import StagePaths
from components.data import dedup, store
from components.data.config import DedupConfig
from components.data.dedup import Candidate, group
from components.data.near_pairs import exact_pairs
from components.data.synthetic import render_scene
from components.data.thumbnails import Thumbnails, embed, pack, unpack
from components.errors import DataQualityError

ROOT = Path(__file__).parents[3]
CONFIG = DedupConfig(max_cosine=0.97, frames=3, thumbnail=12)
SIDES = {"smaller": 64}  # pixels


def write_video(path: Path, frames: np.ndarray, *, crf: int = 18, size: tuple[int, int] = (96, 96)) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=8, options={"crf": str(crf)})
        stream.height, stream.width = size
        stream.pix_fmt = "yuv420p"
        for pixels in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    original = render_scene(SCENE)
    write_video(folder / "original.mp4", original)
    write_video(folder / "again.mp4", original, crf=38)
    write_video(folder / "smaller.mp4", original, crf=28, size=(64, 64))
    write_video(folder / "right.mp4", render_scene(replace(SCENE, motion="right")))
    write_video(folder / "square.mp4", render_scene(replace(SCENE, shape="square", motion="up", seed=6)))
    (folder / "broken.mp4").write_bytes(b"no video")
    return folder


@pytest.fixture
def deduplicated(tmp_path, videos):
    """Run the stage on rows of (name, split, sharpness[, reasons]): (report, name -> row)."""

    def run(*rows, config=CONFIG):
        (tmp_path / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
        names, splits, sharpness, *reasons = zip(
            *((*row, []) if len(row) == 3 else row for row in rows), strict=True
        )
        table = {
            "clip_id": list(names),
            "source": [f"{name}.mp4" for name in names],
            "start_seconds": [0.0] * len(rows),
            "end_seconds": [1.5] * len(rows),
            "width": [SIDES.get(name, 96) for name in names],
            "height": [SIDES.get(name, 96) for name in names],
            "split": list(splits),
            "sharpness": pa.array(sharpness, pa.float32()),
            "reasons": pa.array(reasons[0], pa.list_(pa.string())),
        }
        paths = StagePaths(
            root=tmp_path,
            inputs={"clips": tmp_path / "caption.json", "videos": videos},
            outputs={"clips": tmp_path / "dedup.json"},
            checkpoints=tmp_path,
        )
        store.create(tmp_path, "clips", pa.table(table), "caption").write(paths.inputs["clips"])
        report = dedup.run(config, paths)
        columns = ["clip_id", "duplicate_of", "kept"]
        return report, {
            row["clip_id"]: row for row in store.read(tmp_path, paths.outputs["clips"], columns).to_pylist()
        }

    return run


def test_a_clip_encoded_again_is_a_duplicate_and_others_on_the_same_background_are_not(deduplicated):
    report, rows = deduplicated(
        ("original", "train", 2.0),
        ("again", "train", 1.0),
        ("smaller", "train", 3.0),
        ("right", "train", 1.0),
        ("square", "train", 1.0),
        ("broken", "train", 1.0),
    )
    assert {name for name, row in rows.items() if row["kept"]} == {"original", "right", "square"}
    assert {row["clip_id"]: row["duplicate_of"] for row in rows.values() if row["duplicate_of"]} == {
        "smaller": "original",  # though it is sharper: resolution comes first
        "again": "original",
    }
    assert report.reasons == {"duplicate": 2, "unreadable": 1}
    counts = report.counts
    assert counts["clips"] == counts["kept"] + counts["duplicates"] + counts["unread"] == 6
    assert counts["groups"] == 1


def test_a_training_clip_that_repeats_a_validation_clip_goes_even_if_it_is_sharper(deduplicated):
    report, rows = deduplicated(
        ("original", "train", 9.0), ("again", "validation", 1.0), ("right", "train", 1.0)
    )
    assert rows["original"] == {"clip_id": "original", "duplicate_of": "again", "kept": False}
    assert rows["again"]["kept"]
    assert report.counts["train_copies_of_validation"] == 1
    assert "1 training clips repeat a validation clip" in report.notes[0]


def test_a_rejected_clip_is_not_kept_and_pushes_no_other_out(deduplicated):
    report, rows = deduplicated(("original", "train", 9.0, ["too_static"]), ("again", "train", 1.0, []))
    assert not rows["original"]["kept"]
    assert rows["original"]["duplicate_of"] is None
    assert rows["again"]["kept"]
    assert report.counts["clips"] == 1


def test_a_set_of_which_nothing_is_left_fails_by_the_name_of_the_stage(deduplicated):
    with pytest.raises(DataQualityError, match=r"dedup: none of 1 clips is left: .'unreadable': 1"):
        deduplicated(("broken", "train", 1.0))


def candidates(number):
    return [
        Candidate(f"{index:02}", "train", 100 + index % 4, 1.0 + index % 3, float(index % 2))
        for index in range(number)
    ]


@given(st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11)), max_size=14))
def test_groups_are_the_connected_components_and_keep_their_best_clip(pairs):
    clips = candidates(12)
    reached = np.eye(12, dtype=bool)
    for i, j in pairs:
        reached[i, j] = reached[j, i] = True
    for _ in range(4):  # closes paths of up to 16 steps
        reached = (reached.astype(int) @ reached.astype(int)) > 0
    expected = {frozenset(np.flatnonzero(row)) for row in reached if row.sum() > 1}
    found = group(clips, pairs)
    assert {frozenset(int(clip.clip_id) for clip in (best, *rest)) for best, rest in found} == expected
    for best, rest in found:
        for clip in rest:
            assert (best.pixels, best.seconds, best.score) >= (clip.pixels, clip.seconds, clip.score)


@given(st.randoms())
def test_the_kept_clips_do_not_depend_on_the_order_of_rows(random):
    clips = candidates(10)
    pairs = [("00", "03"), ("03", "05"), ("07", "08")]
    shuffled = random.sample(clips, len(clips))
    place = {clip.clip_id: index for index, clip in enumerate(shuffled)}
    assert group(shuffled, [(place[a], place[b]) for a, b in pairs]) == group(
        clips, [(int(a), int(b)) for a, b in pairs]
    )


def test_clips_of_one_flat_colour_are_not_duplicates_of_each_other(tmp_path):
    for level in (0, 90):
        write_video(tmp_path / f"{level}.mp4", np.full((12, 96, 96, 3), level, np.uint8))
    orders = [Thumbnails(tmp_path / f"{level}.mp4", 0.0, 1.5, 3, 12) for level in (0, 90)]
    assert not list(exact_pairs(np.stack([embed(order) for order in orders]), 0.5))


def test_a_clip_with_a_caption_in_another_language_is_not_kept(tmp_path, videos, deduplicated):
    deduplicated(("original", "train", 1.0), ("right", "train", 1.0))
    source = tmp_path / "caption.json"
    reasons = pa.array([["foreign_language"], []], pa.list_(pa.string()))
    table = pa.table({"clip_id": ["original", "right"], "caption_reasons": reasons})
    store.add_columns(tmp_path, source, table, "caption").write(source)
    paths = StagePaths(
        tmp_path, {"clips": source, "videos": videos}, {"clips": tmp_path / "again.json"}, tmp_path
    )
    dedup.run(CONFIG, paths)
    rows = store.read(tmp_path, paths.outputs["clips"], ["clip_id", "kept"]).to_pylist()
    assert {row["clip_id"]: row["kept"] for row in rows} == {"original": False, "right": True}


def test_what_was_embedded_once_is_not_read_again(deduplicated, videos, monkeypatch):
    rows = (("original", "train", 2.0), ("again", "train", 1.0), ("broken", "train", 1.0))
    first = deduplicated(*rows)

    def refuse(*_args):
        raise AssertionError("a worker was started")

    monkeypatch.setattr("components.data.pool.ItemProcess", refuse)
    assert deduplicated(*rows) == first


def test_an_embedding_survives_being_kept(videos):
    embedding = embed(Thumbnails(videos / "original.mp4", 0.0, 1.5, 3, 12))
    assert (unpack(pack(embedding)) == embedding).all()
    assert np.linalg.norm(embedding.astype(np.float32)) == pytest.approx(1, abs=1e-3)
