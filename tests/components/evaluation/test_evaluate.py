import dataclasses
import shutil

import av
import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from components.artifacts import read_json, sha256_of, sha256_of_json, write_json
from components.data.config import PromptScores
from components.data.latents import LatentManifest, TextTable
from components.errors import ContractError, UserError
from components.evaluation import evaluate, generate
from components.evaluation.classifier import ClassifierConfig, VideoClassifier, save
from components.evaluation.config import EvaluateConfig, SamplerConfig
from components.evaluation.frechet import frechet_distance
from components.evaluation.record import EvaluationRecord
from components.evaluation.text_video import TextVideoEncoder
from components.evaluation.validation_loss import facts_of
from components.ladder.verdict import LadderVerdict
from models.diffusion.blockwise_flow import BlockwiseFlow
from models.diffusion.epsilon import EpsilonDiffusion
from models.diffusion.fixed_draws import fixed_noise, interior_times
from models.diffusion.rectified_flow import RectifiedFlow
from models.diffusion.schedules import NoiseSchedule
from models.diffusion.times import Times
from models.diffusion.v_prediction import VPrediction
from models.generation.layout import Settings
from models.generation.pipeline import TextToVideoPipeline
from models.text import TextEncoder
from models.transformers.causal import FrameBlocks
from tests.tiny_clips import SCENES, make_clips, stage_paths
from tests.tiny_parts import tiny_codec, tiny_text, tiny_transformer

CONFIG = EvaluateConfig(
    seed=3,
    samples=6,
    height=32,
    width=32,
    frames=5,
    fps=8,
    batch=4,
    sampler=SamplerConfig(steps=2, guidance=2.0),
    gallery=3,
    reconstruction_clips=2,
    validation_loss_times=3,
)
INPUTS = {
    "clips": "artifacts/clips/dedup.json",
    "videos": "data/footage",
    "pipeline": "artifacts/pipeline",
    "extractor": "artifacts/extractor",
    "latents": "artifacts/latents/videos.json",
    "ladder": "artifacts/ladder/verdict.json",
}


def make_workspace(root, times=Times(), rescale=0.0, **clips):  # noqa: B008  # nothing changes it
    """Clips, a pipeline with random weights, an extractor, and the manifest of the latents it belongs to."""
    make_clips(root, **clips)
    codec = tiny_codec()
    TextToVideoPipeline(
        transformer=tiny_transformer(),
        codec=codec,
        text_encoder=TextEncoder.from_pretrained(tiny_text(root / "text")),
        times=times,
        defaults=Settings(
            height=32,
            width=32,
            num_frames=5,
            fps=8,
            steps=2,
            guidance_scale=2.0,
            guidance_rescale=rescale,
        ),
    ).save_pretrained(root / INPUTS["pipeline"])
    torch.manual_seed(0)
    folder = root / INPUTS["extractor"]
    folder.mkdir(parents=True)
    save(VideoClassifier(ClassifierConfig((4, 8), 5, 32)), folder)
    TextVideoEncoder(8).save(folder)
    table = TextTable("digest", 32, 12, ())
    LatentManifest(codec.contract(), table, 8, (), {}).write(root / INPUTS["latents"])
    LadderVerdict(sha256_of(root / INPUTS["pipeline"]), survives=True).write(root / INPUTS["ladder"])
    return stage_paths(root, INPUTS, {"evaluation": "artifacts/evaluate"})


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    return make_workspace(tmp_path_factory.mktemp("evaluate"), validation=range(len(SCENES)))


@pytest.fixture(scope="module")
def report(paths):
    return evaluate.run(CONFIG, paths)


def test_one_sample_is_refused_with_the_parameters_and_not_after_it_was_made():
    with pytest.raises(ValueError, match="samples"):
        EvaluateConfig.model_validate(CONFIG.model_dump() | {"samples": 1})


@pytest.fixture(scope="module")
def record(report, paths):
    return EvaluationRecord.read(paths.output("evaluation"))


def test_the_record_says_who_was_measured_how_and_on_what(record, paths):
    assert record.model_sha256 == sha256_of(paths.input("pipeline"))
    assert record.samples == len(record.prompts) == len(SCENES)
    for name, metric in record.metrics.items():
        assert metric.identity.startswith(f"{name}@")
        if metric.per_item:
            assert metric.value == pytest.approx(np.mean(list(metric.per_item.values())))
            assert set(metric.per_item) <= set(record.protocol["clips"])
            assert len(metric.per_item) == metric.n


def test_the_distances_are_those_of_the_stored_features(record, paths):
    stored = load_file(paths.output("evaluation") / "features.safetensors")
    assert all(rows.shape == (len(SCENES), 8) and rows.dtype == np.float32 for rows in stored.values())
    for metric, rows in (("toy_fvd", "generated"), ("toy_fvd_untrained", "untrained")):
        expected = frechet_distance(stored["toy/reference"], stored[f"toy/{rows}"])
        assert record.metrics[metric].value == pytest.approx(expected)


def test_no_number_goes_by_the_published_name(report):
    assert not [name for name in report.metrics if "fvd" in name.lower() and not name.startswith("toy_")]
    assert report.metrics["toy_fvd_share_of_untrained"] == pytest.approx(
        report.metrics["toy_fvd"] / report.metrics["toy_fvd_untrained"], rel=1e-4
    )


def test_a_second_run_writes_the_same_files(report, paths):
    before = sha256_of(paths.output("evaluation"))
    assert evaluate.run(CONFIG, paths) == report
    assert sha256_of(paths.output("evaluation")) == before
    assert not paths.checkpoints.exists()


def test_a_killed_run_goes_on_with_the_batches_it_has(report, paths, monkeypatch):
    before = sha256_of(paths.output("evaluation"))
    calls, make = [], TextToVideoPipeline.__call__

    def dies_in_the_second_batch(self, prompts, **changes):
        calls.append(changes["seed"])
        if len(calls) == 2:
            raise KeyboardInterrupt
        return make(self, prompts, **changes)

    monkeypatch.setattr(TextToVideoPipeline, "__call__", dies_in_the_second_batch)
    with pytest.raises(KeyboardInterrupt):
        evaluate.run(CONFIG, paths)
    evaluate.run(CONFIG, paths)
    assert calls == [3, 7, 7, 3, 7]  # the first batch of the candidate is not made again
    assert sha256_of(paths.output("evaluation")) == before


def test_a_killed_run_goes_on_with_smaller_batches(report, paths, monkeypatch):
    """As after one that ran out of memory."""
    make = TextToVideoPipeline.__call__

    def dies_in_the_second_batch(self, prompts, **changes):
        if changes["seed"] > CONFIG.seed:
            raise MemoryError
        return make(self, prompts, **changes)

    with monkeypatch.context() as patch:
        patch.setattr(TextToVideoPipeline, "__call__", dies_in_the_second_batch)
        with pytest.raises(MemoryError):
            evaluate.run(CONFIG, paths)
    smaller = CONFIG.model_copy(update={"batch": CONFIG.batch // 2})
    assert evaluate.run(smaller, paths).counts == report.counts


def test_the_gallery_holds_videos_that_play(record, paths):
    assert len(record.gallery) == CONFIG.gallery
    for sample in record.gallery:
        with av.open(str(paths.output("evaluation") / sample.file)) as container:
            frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        assert len(frames) == CONFIG.frames
        assert min(frames[0].shape[:2]) >= 128
        assert sample.prompt in record.prompts
        assert set(sample.expected) == set(sample.judged) == {"colour", "shape", "motion"}
    for pair in record.reconstructions:
        assert (paths.output("evaluation") / pair.original).is_file()
        assert (paths.output("evaluation") / pair.decoded).is_file()


@pytest.mark.parametrize(
    ("change", "changed", "kept"),
    [
        (
            {"seed": 4},
            {"toy_fvd", "colour_accuracy", "motion_energy", "validation_loss"},
            {"reconstruction_psnr"},
        ),
        (
            {"sampler": SamplerConfig(steps=3, guidance=2.0)},
            {"toy_fvd", "motion_energy"},
            {"validation_loss"},
        ),
        (
            {"scores": PromptScores(aesthetic=6.5)},
            {"toy_fvd", "motion_energy", "validation_loss"},
            {"reconstruction_psnr"},
        ),
        ({"validation_loss_times": 4}, {"validation_loss"}, {"toy_fvd", "motion_energy"}),
        ({"gallery": 1}, set(), {"toy_fvd", "validation_loss", "motion_energy", "reconstruction_psnr"}),
    ],
)
def test_an_identity_changes_with_what_decides_the_number_and_nothing_else(
    change, changed, kept, record, paths
):
    other = dataclasses.replace(paths, outputs={"evaluation": paths.root / "other"})
    evaluate.run(CONFIG.model_copy(update=change), other)
    after = EvaluationRecord.read(paths.root / "other").metrics
    assert all(after[name].identity != record.metrics[name].identity for name in changed)
    assert all(after[name].identity == record.metrics[name].identity for name in kept)


def test_the_model_is_asked_for_the_scores_and_the_record_keeps_the_prompts(record, paths, monkeypatch):
    asked, make = set(), TextToVideoPipeline.__call__

    def noted(self, prompts, **changes):
        asked.update(prompts)
        return make(self, prompts, **changes)

    monkeypatch.setattr(TextToVideoPipeline, "__call__", noted)
    other = dataclasses.replace(paths, outputs={"evaluation": paths.root / "asked"})
    evaluate.run(CONFIG.model_copy(update={"scores": PromptScores(aesthetic=6.5, camera="pan left")}), other)
    assert EvaluationRecord.read(paths.root / "asked").prompts == record.prompts
    ending = "aesthetic score: 6.5, camera motion: pan left."
    assert asked == {f"{prompt}. {ending}" for prompt in record.prompts}


def test_the_identity_names_the_sampler_and_the_rescale_that_were_used(record, tmp_path):
    paths = make_workspace(tmp_path, VPrediction(), 0.7, validation=range(len(SCENES)))
    evaluate.run(CONFIG, paths)
    other = EvaluationRecord.read(paths.output("evaluation"))
    said = [one.protocol["generation"] for one in (record, other)]
    assert [one["sampler"] for one in said] == ["euler", "ddim, trailing"]
    assert [one.get("guidance_rescale") for one in said] == [None, 0.7]
    different = {
        name for name in record.metrics if other.metrics[name].identity != record.metrics[name].identity
    }
    assert {"toy_fvd", "motion_energy", "colour_accuracy", "validation_loss"} <= different
    assert "reconstruction_psnr" not in different


def test_losses_of_objectives_are_compared_only_where_the_same_noise_is_the_same_problem():
    """A schedule without pure noise at its end is another problem at every time; how often times are drawn is not."""
    others = [
        VPrediction(),
        VPrediction(schedule=NoiseSchedule(zero_terminal_snr=False)),
        VPrediction(schedule=NoiseSchedule(last_beta=1e-2)),
        BlockwiseFlow(times=Times(), blocks=FrameBlocks(size=1)),
        BlockwiseFlow(times=Times(), blocks=FrameBlocks(size=2)),
        EpsilonDiffusion(),
        RectifiedFlow(),
    ]
    told = [sha256_of_json(facts_of(objective)) for objective in others]
    assert len(set(told)) == len(others)
    uniform, shifted = Times(distribution="uniform"), Times(distribution="logit-normal")
    assert facts_of(RectifiedFlow(uniform)) == facts_of(RectifiedFlow(shifted))
    blocks = FrameBlocks(size=2)
    assert facts_of(BlockwiseFlow(times=uniform, blocks=blocks)) == facts_of(
        BlockwiseFlow(times=shifted, blocks=blocks)
    )


def test_untrained_means_other_weights_in_the_same_architecture(paths):
    trained = TextToVideoPipeline.from_pretrained(paths.input("pipeline"))
    state = torch.get_rng_state()
    one, two = (generate.untrained(trained, 5).transformer.state_dict() for _ in range(2))
    assert torch.equal(torch.get_rng_state(), state)
    assert {name: value.shape for name, value in one.items()} == {
        name: value.shape for name, value in trained.transformer.state_dict().items()
    }
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_too_few_validation_clips_are_filled_up_and_the_record_says_so(tmp_path):
    paths = make_workspace(tmp_path, validation=())
    report = evaluate.run(CONFIG, paths)
    assert any("training clips were added" in note for note in report.notes)
    assert EvaluationRecord.read(paths.output("evaluation")).protocol["reference"]["splits"] == ["train"]


def test_what_cannot_be_evaluated_stops_before_the_first_sample(paths, tmp_path):
    with pytest.raises(UserError, match="height 30"):
        evaluate.run(CONFIG.model_copy(update={"height": 30}), paths)
    with pytest.raises(ContractError, match=r"extractor\.frames"):
        evaluate.run(CONFIG.model_copy(update={"frames": 6}), paths)
    with pytest.raises(UserError, match="at least 2 clips"):
        evaluate.run(CONFIG.model_copy(update={"samples": 6, "fps": 1}), paths)
    shutil.copy(paths.input("latents"), tmp_path / "videos.json")
    manifest = read_json(tmp_path / "videos.json")
    manifest["contract"]["weights_sha256"] = "f" * 64
    write_json(tmp_path / "videos.json", manifest)
    foreign = dataclasses.replace(paths, inputs={**paths.inputs, "latents": tmp_path / "videos.json"})
    with pytest.raises(ContractError, match="weights_sha256"):
        evaluate.run(CONFIG, foreign)


def test_the_noise_of_a_clip_does_not_depend_on_its_neighbours():
    shape = (2, 3, 4, 4)
    assert torch.equal(fixed_noise("a", 1, 3, shape), fixed_noise("a", 1, 3, shape))
    assert not torch.equal(fixed_noise("a", 1, 3, shape), fixed_noise("b", 1, 3, shape))
    assert interior_times(10) == pytest.approx(np.linspace(0, 1000, 12)[1:-1])


def test_a_model_that_the_ladder_turned_away_is_not_evaluated(paths, report, tmp_path, monkeypatch):
    monkeypatch.setattr(generate, "generate", None)  # nothing may be made
    verdict = LadderVerdict(sha256_of(paths.input("pipeline")), False, ["its videos stand still"])
    verdict.write(tmp_path / "verdict.json")
    turned_away = dataclasses.replace(
        paths,
        inputs={**paths.inputs, "ladder": tmp_path / "verdict.json"},
        outputs={"evaluation": tmp_path / "evaluation"},
    )
    said = evaluate.run(CONFIG, turned_away)
    assert "its videos stand still" in said.notes
    assert LadderVerdict.of_rejected(tmp_path / "evaluation") == verdict
    assert not (tmp_path / "evaluation/record.json").exists()
    assert LadderVerdict.of_rejected(paths.output("evaluation")) is None


def test_what_the_ladder_says_of_another_model_keeps_nobody_from_being_evaluated(paths, report, tmp_path):
    LadderVerdict("another model", False, ["its videos stand still"]).write(tmp_path / "verdict.json")
    other = dataclasses.replace(paths, inputs={**paths.inputs, "ladder": tmp_path / "verdict.json"})
    assert evaluate.run(CONFIG, other) == report
