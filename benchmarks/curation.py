"""Clips per second of split and score, against a script of PySceneDetect and OpenCV on the same files and cores.

    python benchmarks/curation.py [--folder VIDEOS] [--workers 2] [--files 8] [--rounds 3]

Without a folder it makes footage: H.264 at 640x360, 24 frames a second, five scenes a file. The peer is what a team
writes first: `scenedetect.detect` for the shots, then `cv2.VideoCapture` for sharpness, brightness and Farneback
motion at the same moments and sizes, files spread over a process pool. It looks for no text and keeps no reasons.
Rounds alternate; the ratio is that of the medians.
"""

import argparse
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import cv2
import numpy as np

from components.data.config import FootageConfig
from components.data.footage import plan_files, write_video
from components.data.looks import PAIR_SECONDS, Job
from components.data.pool import Limits, run_pool
from components.data.scenes import detect_scenes
from components.data.scorers import score_clip
from components.data.split import Piece, cut_scene
from components.params import Params

PARAMS = Params.load(Path(__file__).parents[1] / "params.yaml")
ITEM_SECONDS = 600.0
SUFFIXES = (".mp4", ".mov", ".mkv", ".webm")


def make_footage(folder: Path, files: int) -> None:
    """Five scenes of about 4 s a file."""
    config = FootageConfig(
        seed=77,
        files=files,
        scenes_per_file=5,
        scene_seconds=(3.0, 5.0),
        fps=24,
        sizes=((360, 640),),
        static_files=0,
        text_files=0,
        truncated_files=0,
        validation_share=0,
        held_out_combinations=0,
    )
    for plan in plan_files(config):
        write_video((folder, plan))


def pieces_of(path: Path) -> list[Piece]:
    scenes = detect_scenes(path, PARAMS.split)
    pieces = [piece for scene in scenes for piece in cut_scene(scene, PARAMS.split)]
    return [piece for piece in pieces if piece.end - piece.start >= PARAMS.split.min_seconds]


def ours(paths: list[Path], workers: int) -> int:
    limits = Limits(workers, ITEM_SECONDS)
    found = run_pool(pieces_of, paths, limits, title="split")
    jobs = [
        Job(path, piece.start, piece.end, 24.0, PARAMS.score)
        for path, result in zip(paths, found, strict=True)
        for piece in result.value or ()
    ]
    scores = run_pool(score_clip, jobs, limits, title="score")
    return sum(result.value is not None for result in scores)


def peer(paths: list[Path], workers: int) -> int:
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        return sum(pool.imap_unordered(peer_file, paths))


def peer_file(path: Path) -> int:
    """Shots by PySceneDetect, then the scores of each from frames that OpenCV seeks."""
    import scenedetect

    cv2.setNumThreads(1)
    scenes = scenedetect.detect(str(path), scenedetect.AdaptiveDetector(), start_in_scene=True)
    capture = cv2.VideoCapture(str(path))
    fps = capture.get(cv2.CAP_PROP_FPS)
    clips = 0
    for start, end in scenes:
        first, after = start.frame_num, end.frame_num
        if (after - first) / fps >= PARAMS.split.min_seconds:
            clips += bool(peer_scores(capture, first, after, max(1, round(PAIR_SECONDS * fps))))
    return clips


def peer_scores(capture: cv2.VideoCapture, first: int, after: int, gap: int) -> dict[str, float]:
    count = PARAMS.score.frames
    moments = [first + round((index + 0.5) / count * (after - first - gap)) for index in range(count)]
    greys = [[peer_frame(capture, moment + offset) for offset in (0, gap)] for moment in moments]
    motion = [
        np.linalg.norm(cv2.calcOpticalFlowFarneback(*pair, None, 0.5, 3, 15, 3, 5, 1.2, 0), axis=-1).mean()
        for pair in greys[:: max(1, count // 5)]
    ]
    return {
        "motion": float(np.median(motion)),
        "sharpness": float(np.median([cv2.Laplacian(one, cv2.CV_32F).var() for one, _ in greys])),
        "brightness": float(np.mean([one.mean() for one, _ in greys])),
    }


def peer_frame(capture: cv2.VideoCapture, index: int) -> np.ndarray:
    capture.set(cv2.CAP_PROP_POS_FRAMES, index)
    _, frame = capture.read()
    width = PARAMS.score.analysis_width
    small = cv2.resize(
        frame, (width, round(width * frame.shape[0] / frame.shape[1])), interpolation=cv2.INTER_AREA
    )
    return cv2.cvtColor(small, cv2.COLOR_BGR2GRAY)


def timed(work: Callable[[list[Path], int], int], paths: list[Path], workers: int) -> tuple[int, float]:
    """Clips and wall seconds."""
    started = time.perf_counter()
    clips = work(paths, workers)
    return clips, time.perf_counter() - started


def processor_seconds(paths: list[Path]) -> tuple[float, float]:
    """CPU seconds of the work alone, in this process: ours and the peer's, without the start of workers."""
    seconds = []
    for work in (own_file, peer_file):
        started = time.process_time()
        for path in paths:
            work(path)
        seconds.append(time.process_time() - started)
    return seconds[0], seconds[1]


def own_file(path: Path) -> None:
    for piece in pieces_of(path):
        score_clip(Job(path, piece.start, piece.end, 24.0, PARAMS.score))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--files", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--cpu", action="store_true", help="CPU seconds in one process: for a few short files"
    )
    arguments = parser.parse_args()
    try:
        import scenedetect
    except ImportError:
        sys.exit(
            "the peer needs PySceneDetect: `pip install scenedetect-headless` into an environment of its own"
        )
    with tempfile.TemporaryDirectory() as made:
        folder = arguments.folder or Path(made)
        if arguments.folder is None:
            make_footage(folder, arguments.files)
        paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
        if arguments.cpu:
            processor_seconds(paths[:1])  # imports
            own, other = processor_seconds(paths)
            print(f"{len(paths)} files  CPU {own:.2f} s, peer {other:.2f} s  ratio {other / own:.2f} (aim 3)")
            return
        print(f"{len(paths)} files, {arguments.workers} processes, PySceneDetect {scenedetect.__version__}")
        rounds = [
            [timed(work, paths, arguments.workers) for work in (ours, peer)] for _ in range(arguments.rounds)
        ]
    for name, column in zip(("reelforge", "PySceneDetect + OpenCV"), zip(*rounds, strict=True), strict=True):
        seconds = [each for _, each in column]
        rates = ", ".join(f"{clips / each:.2f}" for clips, each in column)
        print(f"{name}: {column[0][0]} clips, {statistics.median(seconds):.1f} s, clips/s {rates}")
    rate, other = (
        statistics.median(clips / seconds for clips, seconds in column)
        for column in zip(*rounds, strict=True)
    )
    print(f"ratio {rate / other:.2f} (aim 3)")


if __name__ == "__main__":
    main()
