"""One dimension per process: what fails, hangs or is missing is said, and is never a score."""

import os
import stat
import time

import numpy as np
import pytest

from components.errors import UserError
from components.evaluation.vbench.environment import Environment, install
from components.evaluation.vbench.prompts import package_info, standard_requests
from components.evaluation.vbench.run import Job, Status, run_dimensions
from components.evaluation.vbench.weights import CLIP_B, FILES, check_weights
from models.generation.video_file import to_mp4

FLICKER = "temporal_flickering"


def write_videos(folder):
    """Four clips of 16 frames: still, a moving square, noise, flashes."""
    rng = np.random.default_rng(0)
    still = np.full((16, 64, 64, 3), 90, np.uint8)
    square, flashes = still.copy(), still.copy()
    for frame in range(16):
        square[frame, 20:36, 2 * frame : 2 * frame + 16] = (200, 40, 40)
        flashes[frame] = 250 if frame % 2 else 10
    noise = rng.integers(0, 256, still.shape, dtype=np.uint8)
    folder.mkdir()
    for name, clip in {"still": still, "square": square, "noise": noise, "flashes": flashes}.items():
        (folder / f"{name}-0.mp4").write_bytes(to_mp4(clip, 8))
    return folder


def environment(folder, script, kind="full"):
    """An environment whose Python is a shell script."""
    python = folder / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(python.stat().st_mode | stat.S_IXUSR)
    return Environment(kind, folder, "digest")


def run(tmp_path, script, dimension=FLICKER, **job):
    videos = tmp_path / "videos"
    if not videos.exists():
        write_videos(videos)
    made = environment(tmp_path / f"environment-{len(list(tmp_path.iterdir()))}", script)
    options = {"expected": {dimension: 4}} | job
    found = run_dimensions(
        Job(videos, "custom_input", **options),
        [dimension],
        made,
        weights=tmp_path / "weights",
        results=tmp_path / "results",
    )
    return found[dimension]


def answer(score, videos):
    names = ", ".join(f'\\"{name}\\": {value}' for name, value in videos.items())
    return f'printf "{{\\"score\\": {score}, \\"videos\\": {{{names}}}, \\"packages\\": {{}}}}" > $3'


def test_a_child_that_fails_is_a_failure_with_what_it_said(tmp_path):
    found = run(tmp_path, "echo no such operator; exit 3")
    assert (found.status, found.score) == (Status.FAILED, None)
    assert found.reason == "exit code 3: no such operator"


def test_a_child_that_says_nothing_is_a_failure_although_its_exit_code_is_zero(tmp_path):
    assert run(tmp_path, "exit 0").status is Status.FAILED


def test_a_child_that_hangs_is_ended_with_all_its_processes(tmp_path):
    pid = tmp_path / "pid"
    started = time.monotonic()
    found = run(tmp_path, f"sleep 600 & echo $! > {pid}; wait", seconds=1.0)
    assert time.monotonic() - started < 60
    assert found.status is Status.FAILED
    assert found.reason.startswith("took too long")
    for _ in range(100):
        if not os.path.exists(f"/proc/{pid.read_text().strip()}"):  # noqa: PTH110
            return
        time.sleep(0.1)
    pytest.fail("its child goes on")


@pytest.mark.parametrize(
    ("videos", "score", "words"),
    [
        ({"a.mp4": 1.0}, 1.0, "1 videos were scored, 4 were expected"),
        (dict.fromkeys("abcd", 1.0), "NaN", "not finite"),
    ],
)
def test_a_result_that_is_not_whole_is_a_failure(tmp_path, videos, score, words):
    found = run(tmp_path, answer(score, videos))
    assert found.status is Status.FAILED
    assert words in found.reason


def test_a_video_without_the_object_has_no_colour_and_does_not_fail_the_dimension(tmp_path):
    """VBench leaves such videos out of the mean of `color`; any real model makes some."""
    made = environment(tmp_path / "environment", answer(0.5, {"a.mp4": 0.5, "b.mp4": 0.5}))
    (made.folder / "lib/python3.11/site-packages/detectron2").mkdir(parents=True)
    weights = tmp_path / "weights"
    for name in FILES["color"]:
        (weights / name).parent.mkdir(parents=True, exist_ok=True)
        (weights / name).write_bytes(b"weights")
    job = Job(write_videos(tmp_path / "videos"), "vbench_standard", {"color": 4})
    found = run_dimensions(job, ["color"], made, weights=weights, results=tmp_path / "results")["color"]
    assert (found.status, found.score) == (Status.OK, 0.5)
    assert found.reason == "2 of 4 videos do not show the object whose colour is asked for"


def test_what_was_scored_is_not_scored_again_until_the_videos_change(tmp_path):
    good = answer(0.5, dict.fromkeys("abcd", 0.5))
    assert run(tmp_path, good).score == 0.5
    assert run(tmp_path, "exit 1").score == 0.5
    (tmp_path / "videos" / "still-0.mp4").write_bytes(b"other")
    assert run(tmp_path, "exit 1").status is Status.FAILED


def test_missing_and_wrong_weights_make_a_dimension_unavailable_and_nothing_is_started(tmp_path):
    mark = tmp_path / "started"
    found = run(tmp_path, f"touch {mark}", dimension="background_consistency")
    assert (found.status, found.score) == (Status.UNAVAILABLE, None)
    assert "ViT-B-32.pt is missing" in found.reason
    file = tmp_path / "weights" / CLIP_B
    file.parent.mkdir(parents=True)
    file.write_bytes(b"something else")
    assert "not 40d365715913" in run(tmp_path, f"touch {mark}", dimension="background_consistency").reason
    assert not mark.exists()
    assert check_weights(FLICKER, tmp_path).problems == ()


def test_bad_requests_are_refused_before_anything_runs(tmp_path):
    with pytest.raises(UserError, match="no dimension colour"):
        run(tmp_path, "exit 0", dimension="colour")
    with pytest.raises(UserError, match="only defined for VBench's own prompts"):
        run(tmp_path, "exit 0", dimension="object_class")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"holds no \.mp4 files"):
        run_dimensions(
            Job(tmp_path / "empty", "custom_input", {FLICKER: 0}),
            [FLICKER],
            environment(tmp_path / "e", "exit 0"),
            weights=tmp_path,
            results=tmp_path,
        )


@pytest.mark.slow
def test_the_real_package_agrees_with_an_independent_computation(tmp_path):
    """In the environment that our command makes: 1 - mean |difference of neighbouring frames| / 255."""
    import av

    made = install(tmp_path, "light")
    videos = write_videos(tmp_path / "videos")
    job = Job(videos, "custom_input", {FLICKER: 4})
    found = run_dimensions(job, [FLICKER], made, weights=tmp_path / "weights", results=tmp_path / "results")[
        FLICKER
    ]
    assert found.status is Status.OK, found.reason
    expected = {}
    for path in videos.iterdir():
        with av.open(str(path)) as container:
            frames = np.stack([frame.to_ndarray(format="bgr24") for frame in container.decode(video=0)])
        expected[path.name] = 1 - np.abs(np.diff(frames.astype(float), axis=0)).mean() / 255
    assert found.videos == pytest.approx(expected, abs=1e-6)
    assert found.score == pytest.approx(np.mean(list(expected.values())), abs=1e-6)
    requests = standard_requests(package_info(made), seed=0)
    assert (len({request.prompt for request in requests}), len(requests)) == (944, 4720)
    assert len(standard_requests(package_info(made), seed=0, flicker_samples=25)) == 6220
