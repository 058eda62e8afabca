"""A workspace just before its release: tiny models with random weights, an evaluation, a verdict, a clip table."""

import shutil
from pathlib import Path

import pyarrow as pa
from safetensors.numpy import save_file

from components.artifacts import sha256_of, write_json
from components.data import store
from components.ladder.verdict import REJECTED_FILE, LadderVerdict
from components.params import Params
from components.registry import gate
from components.registry.policy.contestant import Contestant
from components.stages import STAGES
from models.diffusion.times import Times
from models.generation.layout import Settings
from models.generation.pipeline import TextToVideoPipeline
from models.text import TextEncoder
from tests.components.registry.contestants import contestant
from tests.tiny_parts import tiny_codec, tiny_text, tiny_transformer

REPOSITORY = Path(__file__).parents[3]
SETTINGS = Settings(height=16, width=16, num_frames=5, fps=8, steps=2, guidance_scale=2.0)


def write_models(root: Path, seed: int) -> None:
    """`artifacts/pipeline` and `artifacts/autoencoder/stage3`; another seed is another transformer."""
    text = TextEncoder.from_pretrained(tiny_text(root / "artifacts/text_encoder"))
    codec = tiny_codec()
    codec.save_pretrained(root / "artifacts/autoencoder/stage3")
    pipeline = TextToVideoPipeline(
        transformer=tiny_transformer(seed),
        codec=codec,
        text_encoder=text,
        times=Times(distribution="uniform"),
        defaults=SETTINGS,
    )
    shutil.rmtree(root / "artifacts/pipeline", ignore_errors=True)
    pipeline.save_pretrained(root / "artifacts/pipeline")


def write_evaluation(folder: Path, side: Contestant) -> None:
    side.record.write(folder)
    features = {name: rows.astype("float32") for name, rows in side.features.items()}
    save_file(features, folder / "features.safetensors")


def write_clips(root: Path) -> None:
    """Two kept training clips of one source, a duplicate of it, and a validation clip of another source."""
    rows = [
        ("a0", "one.mp4", "CC-BY-4.0", "train", True),
        ("a1", "one.mp4", "CC-BY-4.0", "train", True),
        ("a2", "one.mp4", "CC-BY-4.0", "train", False),
        ("b0", "two.mp4", "proprietary", "validation", True),
    ]
    names = ("clip_id", "source", "licence", "split", "kept")
    columns = {name: [row[index] for row in rows] for index, name in enumerate(names)}
    columns["start_seconds"] = [0.0, 1.5, 3.0, 0.0]
    columns["end_seconds"] = [1.5, 3.0, 4.5, 36.0]
    columns["source_digest"] = [f"digest of {row[1]}" for row in rows]
    store.create(root, "clips", pa.table(columns), "dedup").write(root / "artifacts/clips/dedup.json")


def make_release(root: Path, *, seed: int = 0, damage: float = 0.5) -> Params:
    """Models, evaluation and verdict of a candidate whose videos are `damage` away from real ones."""
    small_gate = {"min_samples": 64, "permutations": 99, "bootstrap": 100, "margins": {}}
    full = Params.load(REPOSITORY / "params.yaml")
    params = full.model_copy(update={"gate": full.gate.model_copy(update=small_gate)})
    shutil.copyfile(REPOSITORY / "params.yaml", root / "params.yaml")
    write_models(root, seed)
    if not (root / "artifacts/clips/dedup.json").exists():
        write_clips(root)
    digest = sha256_of(root / "artifacts/pipeline")
    write_evaluation(root / "artifacts/evaluate", contestant(digest, seed=seed, damage=damage))
    if not (root / "baseline").exists():
        for name in ("baseline", "frozen_baseline"):
            write_json(root / name / "record.json", {"champion": None})
        write_json(root / "ladder_baseline/champion.json", {"champion": None})
    judge(root, params)
    return params


def reject_by_ladder(root: Path, reason: str) -> None:
    """The evaluation of the candidate as it is where the ladder turned it away."""
    shutil.rmtree(root / "artifacts/evaluate")
    finding = {"metric": "motion_energy", "kind": "ladder floor", "status": "failed", "reason": reason}
    verdict = LadderVerdict(sha256_of(root / "artifacts/pipeline"), False, [reason], [finding])
    verdict.write(root / "artifacts/evaluate" / REJECTED_FILE)


def judge(root: Path, params: Params) -> str:
    """Run the gate; its verdict."""
    report = gate.run(params.gate, STAGES["gate"].paths(root, params))
    return report.notes[0]
