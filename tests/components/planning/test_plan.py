"""Plans of whole recipes: against what was published, against themselves after a change, and against a clip table."""

from pathlib import Path

import pytest
import yaml

from components.artifacts import write_json
from components.errors import UserError
from components.params import Params
from components.planning.devices import parse_cluster
from components.planning.networks import Networks
from components.planning.outcome import outcome_of
from components.planning.parts import Plan, gibibytes
from components.planning.plan import Question, plan
from components.report import Report
from tests.components.data.test_forecast import clip_table

ROOT = Path(__file__).parents[3]
RECIPES = sorted(path.stem for path in (ROOT / "recipes").glob("*.yaml"))
PUBLISHED = {  # recipe -> (a stage, parameters as published or as public weights have them)
    # without the half that predicts the variance
    "open_sora_1_2": ("train@stage3", 1_207_643_972 - 16 * 1153 - 36),
    "walt_t2v": ("walt@base", 3e9),
    "causal_5b": ("causal@stage1", 5e9),
}


def question(gpus: str, **more: object) -> Question:
    return Question({"": parse_cluster(gpus)}, **more)


def recipe(name: str) -> Params:
    return Params.load(ROOT / "recipes" / f"{name}.yaml")


@pytest.fixture(scope="module")
def plans(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Plan]:
    """Each recipe on as many H100 as it was written for, planned once, where there are no clips."""
    empty = tmp_path_factory.mktemp("empty")
    gpus = {name: "64xH100" if name == "walt_t2v" else "96xH100" for name in RECIPES}
    return {name: plan(recipe(name), question(gpus[name]), empty) for name in RECIPES}


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_plans_and_fits_the_gpus_that_it_was_written_for(
    name: str, plans: dict[str, Plan]
) -> None:
    found = plans[name]
    assert found.verdicts == []
    trains = [stage for stage in Networks(recipe(name), ROOT).stages.values() if "curve" in stage.outputs]
    assert {stage.name for stage in found.stages} | set(found.taken) == {each.name for each in trains} - {
        "extractor"
    }
    for stage in found.stages:
        assert stage.hours > 0
        assert sum(bucket.share for bucket in stage.buckets) == pytest.approx(1.0)
        assert stage.step_seconds >= stage.batch_seconds > 0
        assert len(stage.choices) == 8
    assert all(latents.bytes > 0 for latents in found.latents)


@pytest.mark.parametrize("name", PUBLISHED)
def test_models_have_their_published_size(name: str, plans: dict[str, Plan]) -> None:
    wanted, parameters = PUBLISHED[name]
    (stage,) = [stage for stage in plans[name].stages if stage.name == wanted]
    whole = stage.parameters + stage.frozen
    assert whole == pytest.approx(parameters, rel=1e-6 if name == "open_sora_1_2" else 0.05)


def test_open_sora_costs_what_its_authors_paid_within_a_quarter(plans: dict[str, Plan]) -> None:
    found = plans["open_sora_1_2"].comparison
    assert found is not None
    assert found.published_gpu_hours == 35_000
    assert abs(found.error) < 0.25
    paid = 35_000 * 3600 * 989.4e12
    assert found.implied_mfu == pytest.approx((found.training_flops + found.encoder_flops) / paid)
    # steps, GPUs, tokens of 360p, weights, attention
    by_hand = 68_000 * 96 * 105_600 * 3 * (56 * 28 * 1152**2) * 1.05
    assert found.training_flops == pytest.approx(by_hand, rel=0.1)


def test_the_assumed_mfu_is_that_of_the_published_tokens_a_second() -> None:
    """STDiT on an H800: spatial and temporal attention, cross-attention and feed-forward in each of 28 layers."""
    width, layers, text = 1152, 28, 120
    shares = []
    for tokens_a_second, frames, per_frame in ((28_000, 16, 256), (23_000, 16, 1024), (25_000, 64, 1024)):
        weights = 2 * 18 * width**2
        attention = 4 * width * (per_frame + frames + text)
        shares.append(tokens_a_second * 3 * layers * (weights + attention) / 989.4e12)
    assert sum(shares) / 3 == pytest.approx(parse_cluster("1").mfu, abs=0.005)


def only_stage3(buckets: dict[str, dict[str, list[float]]], zero_stage: int = 2) -> Params:
    """Open-Sora 1.2 with other buckets in its last stage."""
    raw = yaml.safe_load((ROOT / "recipes/open_sora_1_2.yaml").read_text())
    raw["train"]["stage3"]["zero_stage"] = zero_stage
    raw["train"]["stage3"]["batches"]["buckets"] = buckets
    return Params.model_validate(raw)


def test_what_does_not_fit_fits_after_each_change_that_is_named() -> None:
    asked = question("96xA100-40GB", stage="train@stage3")
    found = plan(only_stage3({"480p": {"51": [1, 6]}}), asked, ROOT / "nowhere")
    (bucket,) = found.stages[0].buckets
    room = asked.clusters[""].device.memory
    assert not bucket.fits
    assert bucket.memory.total > room
    assert found.verdicts[0].startswith(
        f"does not fit: train@stage3 bucket 480p x 51 needs {gibibytes(bucket.memory.total)}"
    )
    (way,) = [way for way in bucket.ways_out if way.startswith("batch")]
    largest = int(way.removeprefix("batch "))
    for batch, fits in ((largest, True), (largest + 1, False)):
        changed = plan(only_stage3({"480p": {"51": [1, batch]}}), asked, ROOT / "nowhere")
        assert changed.stages[0].fits == fits
    for choice in found.stages[0].choices:
        assert choice.fits == (choice.bytes <= room)
        if choice.recompute and choice.zero_stage == 2:
            assert choice.bytes == bucket.memory.total


def test_a_batch_of_one_that_fits_nowhere_says_so() -> None:
    found = plan(
        only_stage3({"2048": {"1": [1, 64]}}), question("1xRTX4090", stage="train@stage3"), ROOT / "nowhere"
    )
    assert found.verdicts == [
        line for line in found.verdicts if line.endswith("a GPU with more memory, or leave this bucket out")
    ]


def test_twice_the_gpus_take_half_the_steps_share_but_not_fewer_gpu_hours(plans: dict[str, Plan]) -> None:
    """Steps are the recipe's: more GPUs see more samples in as many steps, and wait longer for the slowest."""
    more = plan(recipe("causal_5b"), question("192xH100", stage="causal@stage2"), ROOT / "nowhere").stages[0]
    (less,) = [stage for stage in plans["causal_5b"].stages if stage.name == "causal@stage2"]
    assert more.step_flops == pytest.approx(2 * less.step_flops)
    assert more.hours >= less.hours


def test_stages_can_have_gpus_of_their_own() -> None:
    clusters = {
        "": parse_cluster("96xH100"),
        "train@": parse_cluster("8xH200"),
        "train@stage1": parse_cluster("4xB200"),
    }
    asked = Question(clusters)
    assert asked.cluster("adapt@masks").name == "96xH100"
    assert asked.cluster("train@stage2").name == "8xH200"
    found = plan(recipe("demo"), Question(clusters, stage="train@stage1"), ROOT / "nowhere")
    assert found.stages[0].cluster.name == "4xB200"


def test_a_stage_that_is_not_there_is_refused() -> None:
    with pytest.raises(UserError, match="train@stage1"):
        plan(recipe("demo"), question("1xH100", stage="trian"), ROOT / "nowhere")


def test_a_clip_that_the_autoencoder_cannot_take_is_refused_with_the_stage() -> None:
    raw = yaml.safe_load((ROOT / "recipes/walt_tiny.yaml").read_text())
    raw["walt"]["encode"]["base"]["buckets"]["frames"] = [1, 8]
    raw["walt"]["base"]["batches"]["buckets"] = {"16px": {"8": [1.0, 4]}}
    with pytest.raises(UserError, match=r"walt@base: .*1 \+ "):
        plan(Params.model_validate(raw), question("1xH100", stage="walt@base"), ROOT / "nowhere")


def test_clips_at_hand_decide_the_shares_and_what_is_lost(tmp_path: Path) -> None:
    clips = clip_table(tmp_path)
    usable = [clip for clip in clips if clip["kept"] and clip["split"] == "train"]
    found = plan(recipe("demo"), question("1xH100", stage="train@stage1"), tmp_path)
    (stage,) = found.stages
    assert stage.data.source == "clip table"
    assert stage.data.clips == len(usable)
    assert stage.data.used + sum(stage.data.unused.values()) == len(usable)


def test_an_outcome_names_what_was_predicted_and_what_was_recorded(tmp_path: Path) -> None:
    networks = Networks(recipe("demo"), tmp_path)
    found = plan(recipe("demo"), question("1xH100", stage="train@stage1"), tmp_path)
    assert outcome_of(found, networks) == []
    Report("train@stage1", metrics={"parameters": 1_819_168, "steps": 600}).write(
        tmp_path / "reports/train@stage1.json"
    )
    folder = tmp_path / "checkpoints/train@stage1/step-000100"
    folder.mkdir(parents=True)
    write_json(folder / "state.json", {})
    (folder / "rank-00000.safetensors").write_bytes(bytes(16 * 1_819_168))
    told = {line.what: line.recorded / line.predicted for line in outcome_of(found, networks)}
    assert told["parameters"] == told["steps"] == 1.0
    assert told["bytes of a checkpoint"] == pytest.approx(1.0, rel=1e-5)


def test_encoders_that_run_in_the_steps_are_named_as_what_is_not_in_the_figures() -> None:
    stored = causal_at_720p("64xH100")
    raw = yaml.safe_load((ROOT / "recipes/causal_5b.yaml").read_text())
    raw["causal"]["stage2"]["batches"] |= {"source": "videos"}
    encoded = plan(Params.model_validate(raw), question("64xH100", stage="causal@stage2"), ROOT / "nowhere")
    assert any("not on the GPU" in line for line in stored.assumptions)
    assert not any("not on the GPU" in line for line in encoded.assumptions)
    assert any(line.startswith("causal@stage2: clips are encoded") for line in encoded.assumptions)


def causal_at_720p(gpus: str, **changes: object) -> Plan:
    """Of the last stage of the causal model, on its largest clips alone."""
    raw = yaml.safe_load((ROOT / "recipes/causal_5b.yaml").read_text())
    stage = raw["causal"]["stage2"]
    stage["batches"]["buckets"] = {"720p": stage["batches"]["buckets"]["720p"]}
    stage |= changes
    return plan(Params.model_validate(raw), question(gpus, stage="causal@stage2"), ROOT / "nowhere")


def test_gpus_that_share_the_tokens_of_a_clip_have_fewer_batches_and_less_of_each() -> None:
    alone, shared = causal_at_720p("16xH100"), causal_at_720p("32xH100", sequence_parallel=2)
    (one,), (two,) = alone.stages, shared.stages
    assert two.step_flops == one.step_flops  # of as many batches
    assert two.step_seconds == pytest.approx(one.step_seconds / 2)
    assert shared.gpu_hours == pytest.approx(alone.gpu_hours)
    # the tokens of a GPU are half as many; the copies of the weights that autocast makes are not
    whole, part = (stage.fullest.memory.activations for stage in (one, two))
    assert whole / 2 < part < whole / 2 + 2 * one.parameters


@pytest.mark.parametrize(
    ("gpus", "changes", "refusal"),
    [
        ("31xH100", {}, "its sequence_parallel of 2 does not divide 31 GPUs"),
        ("64xH100", {"step_batches": 24}, "64 processes cannot share its step_batches of 24 equally; 48 can"),
    ],
)
def test_gpus_that_training_would_refuse_are_named(gpus: str, changes: dict[str, int], refusal: str) -> None:
    found = causal_at_720p(gpus, sequence_parallel=2, **changes)
    assert found.verdicts == [f"refused: causal@stage2: {refusal}"]


@pytest.mark.parametrize(
    ("processes", "reason"),
    [(5, "24 heads cannot be divided among 5"), (3, "22 x 40 tokens cannot be divided")],
)
def test_clips_that_training_could_not_divide_are_refused(processes: int, reason: str) -> None:
    with pytest.raises(UserError, match=f"causal@stage2: {reason}"):
        causal_at_720p("60xH100", sequence_parallel=processes)


def test_a_step_of_so_many_batches_costs_the_same_gpu_hours_on_fewer_gpus() -> None:
    raw = yaml.safe_load((ROOT / "recipes/causal_5b.yaml").read_text())
    raw["causal"]["stage2"] |= {"step_batches": 96}
    params = Params.model_validate(raw)
    many, few, odd = (
        plan(params, question(gpus, stage="causal@stage2"), ROOT / "nowhere")
        for gpus in ("96xH100", "32xH100", "36xH100")
    )
    assert few.stages[0].accumulation == 3
    assert few.stages[0].step_flops == pytest.approx(many.stages[0].step_flops)
    waiting = many.stages[0].step_seconds / few.stages[0].step_seconds * 3
    assert few.gpu_hours * waiting == pytest.approx(many.gpu_hours)
    assert many.verdicts == few.verdicts == []
    refused = "refused: causal@stage2: 36 processes cannot share its step_batches of 96 equally; 32 can"
    assert odd.verdicts == [refused]
