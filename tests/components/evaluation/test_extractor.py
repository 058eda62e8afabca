import numpy as np
import pytest
import torch

from components.artifacts import sha256_of
from components.data.pool import Limits
from components.errors import ContractError
from components.evaluation import extractor
from components.evaluation.augment import augment
from components.evaluation.classifier import VOCABULARY, WEIGHTS, Extractor, to_input
from components.evaluation.config import ExtractorConfig
from components.evaluation.frechet import frechet_distance
from components.evaluation.procedural import draw_clips
from components.evaluation.text_video import bags_of, bags_of_labels, train_text_video
from tests.tiny_clips import ROOT, stage_paths

LIMITS = Limits(2, 60)
CONFIG = ExtractorConfig(
    seed=7,
    clips=48,
    steps=4,
    batch=8,
    lr=1e-2,
    widths=(4, 8, 8),
    frames=5,
    size=16,
    held_out_clips=24,
    min_accuracy={"shape": 0.0, "colour": 0.0, "motion": 0.0},
    min_damage_times=0.0,
)


def paths_in(folder):
    (folder / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    return stage_paths(folder, {}, {"extractor": "artifacts/extractor", "curve": "curves/extractor.csv"})


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    paths = paths_in(tmp_path_factory.mktemp("extractor"))
    return paths, extractor.run(CONFIG, paths)


def test_the_same_parameters_make_the_same_weights(trained, tmp_path):
    paths, report = trained
    again = paths_in(tmp_path)
    assert extractor.run(CONFIG, again) == report
    assert sha256_of(again.output("extractor")) == sha256_of(paths.output("extractor"))
    assert again.output("curve").read_text() == paths.output("curve").read_text()


def test_the_curve_has_a_loss_per_logged_step(trained):
    lines = trained[0].output("curve").read_text().splitlines()
    assert lines[0] == "step,loss"
    assert int(lines[-1].split(",")[0]) == CONFIG.steps


def test_an_extractor_that_cannot_read_unseen_clips_fails_by_name(tmp_path):
    config = CONFIG.model_copy(update={"min_accuracy": {"motion": 1.01}})
    with pytest.raises(ContractError, match=r"motion .* < 1\.01"):
        extractor.run(config, paths_in(tmp_path))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"min_damage_times": 1e6}, r"shuffled_frames is .* times the floor, 1e\+06 are asked"),
        ({"min_caption_margin": {"colour": 2.0}}, "a wrong colour lowers the cosine by"),
    ],
)
def test_an_extractor_that_does_not_see_damage_or_wrong_words_fails_by_name(tmp_path, changes, words):
    with pytest.raises(ContractError, match=words):
        extractor.run(CONFIG.model_copy(update=changes), paths_in(tmp_path))


def test_the_joint_probabilities_are_products_in_the_order_of_the_words(trained):
    loaded = Extractor.load(trained[0].output("extractor"))
    clips = np.random.default_rng(0).integers(0, 256, (3, 5, 16, 16, 3)).astype(np.uint8)
    found = loaded.read(clips).probabilities.reshape(3, 4, 3, 4)
    with torch.inference_mode():
        logits = loaded.model(to_input(clips, 16))
    parts = [logits[name].softmax(dim=1).numpy() for name in ("colour", "shape", "motion")]
    np.testing.assert_allclose(found, np.einsum("na,nb,nc->nabc", *parts), rtol=1e-4)


def test_text_and_video_meet_where_words_agree():
    """Features that are the words themselves: right captions come close, wrong ones do not."""
    rng = np.random.default_rng(0)
    labels = {name: rng.integers(0, len(words), 600) for name, words in VOCABULARY.items()}
    bags = bags_of_labels(labels)
    features = bags @ torch.randn(11, 16, generator=torch.Generator().manual_seed(1))
    encoder = train_text_video(features, labels, seed=2)
    words = [" ".join(VOCABULARY[name][labels[name][row]] for name in VOCABULARY) for row in range(600)]
    assert torch.equal(bags_of(words), bags)
    right = encoder.similarity(features.numpy(), words)
    assert right.mean() > 0.8
    assert encoder.similarity(features.numpy(), words[1:] + words[:1]).mean() < right.mean() - 0.4


def test_a_stored_extractor_is_known_by_its_weights_and_reads_in_any_batch(trained):
    folder = trained[0].output("extractor")
    loaded = Extractor.load(folder)
    assert loaded.sha256 == sha256_of(folder / WEIGHTS)
    clips = np.random.default_rng(0).integers(0, 256, (5, 5, 16, 16, 3)).astype(np.uint8)
    together, apart = loaded.read(clips), [loaded.read(clip[None]) for clip in clips]
    assert np.allclose(together.features, np.concatenate([one.features for one in apart]), atol=1e-5)
    assert together.features.shape == (5, CONFIG.widths[-1])
    with pytest.raises(ValueError, match="5 frames"):
        loaded.read(clips[:, :4])


def test_clips_of_another_size_are_reduced_by_area():
    clips = np.random.default_rng(0).integers(0, 256, (2, 3, 8, 12, 3)).astype(np.uint8)
    small = to_input(clips, 4)
    expected = clips.reshape(2, 3, 4, 2, 4, 3, 3).mean(axis=(3, 5)) / 127.5 - 1
    assert np.allclose(small.permute(0, 2, 3, 4, 1), expected, atol=1e-5)


def test_procedural_clips_do_not_depend_on_the_number_of_workers():
    one, two = (draw_clips(3, count=70, frames=3, size=8, limits=Limits(workers, 60)) for workers in (1, 2))
    assert np.array_equal(one.clips, two.clips)
    assert all(np.array_equal(one.labels[name], two.labels[name]) for name in one.labels)
    other = draw_clips(4, count=70, frames=3, size=8, limits=LIMITS)
    assert not np.array_equal(one.clips, other.clips)


def test_damage_keeps_shape_range_and_brightness_of_a_clip():
    clips = torch.rand(6, 3, 4, 16, 16, generator=torch.Generator().manual_seed(0)) - 0.5
    damaged = augment(clips, torch.Generator().manual_seed(1))
    assert damaged.shape == clips.shape
    assert damaged.abs().max() <= 1
    assert not torch.equal(damaged, clips)
    assert torch.allclose(damaged.mean(dim=(1, 2, 3, 4)), clips.mean(dim=(1, 2, 3, 4)), atol=0.12)
    assert torch.equal(damaged, augment(clips, torch.Generator().manual_seed(1)))


@pytest.mark.slow
def test_a_trained_extractor_sees_broken_motion_far_above_its_own_noise(tmp_path):
    sizes = {"clips": 1024, "steps": 250, "batch": 32, "widths": (8, 24, 48, 64), "frames": 9, "size": 32}
    paths = paths_in(tmp_path)
    report = extractor.run(CONFIG.model_copy(update={**sizes, "held_out_clips": 256}), paths)
    assert report.metrics["motion_accuracy"] > 0.9
    loaded = Extractor.load(paths.output("extractor"))
    real, other = (draw_clips(seed, count=256, frames=9, size=32, limits=LIMITS).clips for seed in (101, 102))
    rng = np.random.default_rng(0)

    def distance(clips):
        return frechet_distance(loaded.read(real).features, loaded.read(clips).features)

    floor = distance(other)
    shuffled = np.stack([clip[rng.permutation(9)] for clip in other])
    still = np.repeat(other[:, 4:5], 9, axis=1)
    frozen = [
        np.concatenate([other[:, :k], np.repeat(other[:, k - 1 : k], 9 - k, axis=1)], axis=1)
        for k in (6, 4, 2)
    ]
    noisy = [np.clip(other + rng.normal(0, sd, other.shape), 0, 255).astype(np.uint8) for sd in (40, 60, 80)]
    assert distance(shuffled) > 5 * floor
    assert distance(still) > 5 * floor
    for levels in (frozen, noisy):  # stronger than the damage of training, which is meant not to count
        scores = [floor, *(distance(level) for level in levels)]
        assert scores == sorted(scores)
