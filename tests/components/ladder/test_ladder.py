"""The ladder of a real training stage: what it measures, what it leaves behind, which weights it has a stage use."""

import numpy as np
import pytest
import torch

from components.artifacts import sha256_of
from components.data.latents import LatentManifest, LatentStore
from components.errors import ParamsError, UserError
from components.evaluation.classifier import Extractor
from components.evaluation.frechet import frechet_distance
from components.evaluation.motion import motion_energy
from components.ladder.record import LadderRecord
from components.params import Params
from components.report import Report
from components.stages import execute
from models.diffusion.times import Times
from models.generation.layout import Settings
from models.generation.pipeline import TextToVideoPipeline, to_pixels
from models.text import TextEncoder
from models.transformers.video_transformer import VideoTransformer
from tests.stage_workspace import STAGE, make_workspace, start, wait_for_step
from tests.tiny_parts import CAPTIONS, tiny_codec

WEIGHTS = "artifacts/train/stage1/diffusion_pytorch_model.safetensors"
LADDER = {
    "steps": 4,
    "clips": 3,
    "reference_clips": 4,
    "sampling_steps": 2,
    "guidance": 2.0,
    "batch": 2,
    "seed": 7,
}
COMMON = {"steps": 12, "checkpoint_steps": 4, "validation": {"samples": 3, "times": 2}}


def workspace(root, *, ladder=LADDER, **changes):
    """Latents of the tiny autoencoder, four of six clips held out."""
    latents = {"codec": tiny_codec().contract(), "held_out": 4}
    return make_workspace(root, latents=latents, **{**COMMON, "ladder": ladder, **changes})


@pytest.fixture(scope="module")
def climbed(tmp_path_factory):
    root = workspace(tmp_path_factory.mktemp("ladder") / "climbed")
    execute(STAGE, root)
    return root


def record_of(root):
    return LadderRecord.read(root / "artifacts/train/stage1")


def test_a_look_finds_what_the_definition_says_of_the_averaged_weights(climbed):
    """Videos by the pipeline itself: held-out captions by clip id, the extractor, and the distance."""
    settings = Settings(height=16, width=16, num_frames=5, fps=8, steps=2, guidance_scale=2.0, seed=7)
    times = Params.load(climbed / "params.yaml").section("train.stage1").times
    pipeline = TextToVideoPipeline(
        transformer=VideoTransformer.from_pretrained(climbed / "artifacts/train/stage1"),  # the average
        codec=tiny_codec(),
        text_encoder=TextEncoder.from_pretrained(climbed / "artifacts/text_encoder"),
        times=Times(**times.model_dump()),
        defaults=settings,
    )
    held_out = range(2, 6)  # clip k has caption k modulo 2
    made = pipeline([CAPTIONS[clip % 2] for clip in held_out][:3], batch=2)
    store = LatentStore(climbed / "artifacts/latents/videos.json", root=climbed)
    family = next(family for family in store.manifest.families if family.key == "5x16x16")
    with torch.no_grad():
        real = to_pixels(tiny_codec().decode(store.read(family, list(held_out))[0], 5))
    read = Extractor.load(climbed / "artifacts/extractor").read
    expected = frechet_distance(read(real).features, read(made).features)
    last = record_of(climbed).at(12)
    assert last.metrics["toy_fvd"] == pytest.approx(expected, rel=1e-2)  # stored captions have half precision
    assert last.metrics["motion_energy"] == pytest.approx(
        np.mean([motion_energy(clip) for clip in made]), rel=1e-2
    )
    assert last.metrics["temporal_flickering"] == pytest.approx(1 - last.metrics["motion_energy"])


def test_the_report_has_a_row_for_each_look_and_the_record_what_they_were_measured_by(climbed):
    report, record = Report.read(climbed / f"reports/{STAGE}.json"), record_of(climbed)
    assert [row["step"] for row in report.looks] == [rung.step for rung in record.rungs] == [4, 8, 12]
    assert (
        report.metrics["val/loss"] == report.looks[-1]["val/loss"] == record.at(12).metrics["validation_loss"]
    )
    assert record.rule["best_by"] == "validation_loss"
    assert record.used == 12
    assert record.best == min(record.rungs, key=lambda rung: rung.metrics["validation_loss"]).step
    assert {name.partition("@")[0] for name in record.identities.values()} == set(record.identities)
    assert len(record.at(12).clips) == 3 * 3  # clips of each of the buckets
    mean = sum(record.at(12).clips.values()) / 9
    assert mean == pytest.approx(record.at(12).metrics["validation_loss"])


def test_looking_leaves_the_weights_as_they_are_and_finds_the_same_again(climbed, tmp_path):
    blind, again = workspace(tmp_path / "blind", ladder={"steps": 0}), workspace(tmp_path / "again")
    for root in (blind, again):
        execute(STAGE, root)
    assert sha256_of(blind / WEIGHTS) == sha256_of(climbed / WEIGHTS)
    assert record_of(blind) is None
    assert sha256_of(again / "artifacts/train/stage1") == sha256_of(climbed / "artifacts/train/stage1")


def test_the_best_look_is_used_where_it_is_asked_for(climbed, tmp_path):
    """A learning rate that ruins the model at the end: the best look is an earlier one, and its average comes out."""
    ruin = {"lr": 0.5, "warmup_steps": 24}
    last = workspace(tmp_path / "last", optimizer=ruin)
    best = workspace(tmp_path / "best", optimizer=ruin, use="best")
    for root in (last, best):
        execute(STAGE, root)
    step = record_of(last).best
    assert step < 12
    assert (record_of(last).used, record_of(best).used) == (12, step)
    assert sha256_of(best / WEIGHTS) != sha256_of(last / WEIGHTS)
    short = workspace(tmp_path / "short", optimizer=ruin, steps=step)  # the same run, ended there
    execute(STAGE, short)
    assert sha256_of(short / WEIGHTS) == sha256_of(best / WEIGHTS)
    assert Report.read(best / f"reports/{STAGE}.json").metrics["used_step"] == step


def test_a_run_that_was_killed_has_the_same_ladder(tmp_path):
    long = {"steps": 40, "ladder": {**LADDER, "steps": 8}}
    killed, whole = workspace(tmp_path / "killed", **long), workspace(tmp_path / "whole", **long)
    process = start(killed)
    wait_for_step(killed, 8, process)
    process.kill()
    process.wait()
    for root in (killed, whole):
        execute(STAGE, root)
    assert [rung.step for rung in record_of(killed).rungs] == [8, 16, 24, 32, 40]
    assert record_of(killed) == record_of(whole)


def test_the_best_may_be_chosen_by_the_distance_of_the_small_sample(tmp_path):
    root = workspace(tmp_path, ladder={**LADDER, "best_by": "toy_kvd"})
    execute(STAGE, root)
    record = record_of(root)
    assert record.best == min(record.rungs, key=lambda rung: rung.metrics["toy_kvd"]).step
    assert [rung.score for rung in record.rungs] == [rung.metrics["toy_kvd"] for rung in record.rungs]


def test_other_clips_are_another_identity(climbed, tmp_path):
    other = workspace(tmp_path, ladder={**LADDER, "clips": 2}, validation={"samples": 2, "times": 2}, steps=4)
    execute(STAGE, other)
    mine, theirs = record_of(climbed).identities, record_of(other).identities
    assert all(mine[name] != theirs[name] for name in mine)


def test_without_held_out_clips_there_is_nothing_to_climb_by(tmp_path):
    root = workspace(tmp_path)
    manifest = root / "artifacts/latents/videos.json"
    make_workspace(root, latents={"codec": LatentManifest.read(manifest).contract}, **COMMON, ladder=LADDER)
    with pytest.raises(UserError, match=r"ladder.steps needs held-out clips"):
        execute(STAGE, root)


def test_looks_that_meet_no_checkpoint_are_refused_when_parameters_are_read(tmp_path):
    with pytest.raises(ParamsError, match=r"ladder.steps 6 is no multiple of checkpoint_steps 4"):
        workspace(tmp_path, ladder={**LADDER, "steps": 6})


def test_the_best_needs_something_to_choose_by(tmp_path):
    root = workspace(tmp_path, ladder={"steps": 0}, use="best")
    with pytest.raises(UserError, match="`use: best` needs something to choose by"):
        execute(STAGE, root)
