"""A finished workspace in the formats of the real stages, with made-up numbers: what the report page is built from."""

import csv
import math
from dataclasses import replace
from pathlib import Path

import numpy as np

from components.artifacts import sha256_of
from components.data.synthetic import attributes_of, caption_of, render_scene, sample_spec
from components.evaluation.record import EvaluationRecord, Reconstruction, Sample
from components.ladder.record import LadderRecord, Rung
from components.registry.baseline import sync_baseline
from components.registry.promote import promote_by_verdict
from components.registry.register import register_candidate
from components.report import Report
from components.stages import STAGES
from models.generation.video_file import to_mp4
from tests.components.registry.contestants import contestant, mean_of
from tests.components.registry.release_files import judge, make_release, write_evaluation

REPORTS = (
    Report(
        "ingest",
        counts={"files": 163, "usable": 161, "rejected": 2},
        reasons={"truncated": 1, "unreadable": 1},
    ),
    Report(
        "split", counts={"files": 161, "pieces": 812, "clips": 771, "rejected": 41}, reasons={"too_short": 41}
    ),
    Report(
        "filter",
        counts={"clips": 771, "passed": 702, "rejected": 69},
        reasons={"too_static": 33, "text_overlay": 30, "blurred": 9},
    ),
    Report("dedup", counts={"clips": 702, "kept": 684, "duplicates": 17, "unread": 1}),
    Report("validate", counts={"clips": 684, "train": 431, "validation": 253}),
    Report(
        "train@stage3",
        looks=[{"step": 200, "val/loss": 0.31}, {"step": 500, "val/loss": 0.29}],
    ),
    Report(
        "ladder",
        {"survives": 1},
        notes=[
            "passed: motion_energy of the small sample is 0.0211, at least 0.002 is asked",
            "left out: toy_fvd is `toy_fvd@1` here and `toy_fvd@2` in the champion's ladder: two different"
            " measurements",
        ],
    ),
)
LADDER = LadderRecord(
    rule={"best_by": "validation_loss"},
    identities={
        name: f"{name}@1" for name in ("validation_loss", "toy_fvd", "motion_energy", "temporal_flickering")
    },
    used=500,
    best=500,
    rungs=[
        Rung(
            200,
            {"validation_loss": 0.31, "toy_fvd": 5.2, "motion_energy": 0.024, "temporal_flickering": 0.976},
            0.31,
            {},
        ),
        Rung(500, {"validation_loss": 0.29, "toy_fvd": 4.8, "temporal_flickering": 0.979}, 0.29, {"a": 0.29}),
    ],
)


def make_finished(root: Path, *, samples: int = 24) -> Path:
    """Everything a run leaves behind, the first model promoted; returns `root`."""
    params = make_release(root)
    LADDER.write(root / "artifacts/pipeline/transformer")
    _write_samples(root, samples)
    judge(root, params)
    promote_by_verdict(root, params, register_candidate(root, params))
    for report in REPORTS:
        report.write(root / "reports" / f"{report.stage}.json")
    for index, stage in enumerate(stage for stage in STAGES.values() if "curve" in stage.outputs):
        _write_curve(root / stage.outputs["curve"], index)
    (root / "dvc.lock").write_text(LOCK)
    return root


def make_rival(root: Path, *, samples: int) -> None:
    """A second model in a finished workspace, with videos of the same prompts, judged against the champion."""
    params = make_release(root, seed=1, damage=0.0)
    _write_samples(root, samples, damage=0.0)
    sync_baseline(root, params)
    judge(root, params)
    register_candidate(root, params)


def _write_samples(root: Path, count: int, damage: float = 0.5) -> None:
    """The evaluation again, with videos and more metrics."""
    folder = root / "artifacts/evaluate"
    side = contestant(sha256_of(root / "artifacts/pipeline"), seed=0, damage=damage)
    rng = np.random.default_rng(7)
    gallery, pairs = [], []
    for index in range(count):
        spec = sample_spec(rng, size=(32, 32), frames=9)
        name = f"samples/{index:03d}.mp4"
        _write(folder / name, to_mp4(render_scene(spec), 8))
        expected = dict(attributes_of(caption_of(spec)))
        judged = {**expected, "motion": "left"} if index % 7 == 3 else expected
        gallery.append(Sample(name, caption_of(spec), expected, judged))
        if index < 6:
            _write(folder / f"reconstructions/{index:03d}.mp4", to_mp4(render_scene(spec)[:, ::-1], 8))
            pairs.append(Reconstruction(name, f"reconstructions/{index:03d}.mp4", 26.4 + index / 3))
    identity = "toy_clipsim@3f1c09aa2b7d;9f;32x32;8fps;n64;ref=5d0f6e11"
    metrics = {
        name: replace(metric, identity=f"{name}@3f1c09aa2b7d;9f;32x32;8fps;n64;ref=5d0f6e11")
        for name, metric in side.record.metrics.items()
    }
    metrics["colour_accuracy"] = mean_of(rng.random(64) < 0.93, "colour@3f1c09aa2b7d;9f;32x32", chance=0.25)
    metrics["colour_accuracy"] = replace(metrics["colour_accuracy"], interval=(0.86, 0.98))
    metrics["toy_clipsim"] = mean_of(rng.normal(0.81, 0.05, 64), identity)
    record = EvaluationRecord(
        side.record.model_sha256, {"frames": 9}, 64, side.record.prompts, metrics, gallery, pairs
    )
    write_evaluation(folder, replace(side, record=record))


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def _write_curve(path: Path, index: int) -> None:
    """A falling, noisy loss; the first stages fall over two decades."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(index)
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(("step", "loss", "grad_norm", "lr"))
        for step in range(20, 520, 20):
            loss = (1.2 if index % 2 else 0.3) * math.exp(-step / (90 if index < 2 else 400))
            writer.writerow((step, (loss + 0.02) * rng.uniform(0.93, 1.07), 1.0, 1e-3))


LOCK = """schema: '2.0'
stages:
  dedup:
    cmd: python -m components dedup
    outs:
    - path: artifacts/clips/dedup.json
      md5: 0f343b0931126a20f133d67c2b018a3b
  package:
    cmd: python -m components package
    outs:
    - path: artifacts/pipeline
      md5: 7d793037a0760186574b0282f2f435e7.dir
"""
