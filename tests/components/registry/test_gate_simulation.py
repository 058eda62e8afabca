"""How often the gate errs on real features: an extractor trained here, and clips that neither it nor a footage saw."""

import numpy as np
import pytest

from components.data.pool import Limits
from components.evaluation.classifier import Extractor
from components.evaluation.config import ExtractorConfig
from components.evaluation.extractor import accuracy_on, train
from components.evaluation.procedural import LabelledClips, draw_clips
from components.params import Params
from components.registry.gate import decide
from components.registry.policy.verdict import Decision
from tests.components.registry.contestants import contestant, with_features
from tests.components.registry.release_files import REPOSITORY

FRAMES, POOL, REFERENCE = 9, 1536, 512
CONFIG = ExtractorConfig(
    seed=11,
    clips=768,
    steps=250,
    batch=32,
    lr=1e-2,
    widths=(8, 24, 24),
    frames=FRAMES,
    size=16,
    held_out_clips=POOL,
    min_accuracy={},
)


def frozen(clips: np.ndarray, share: float) -> np.ndarray:
    """The frame at which the last `share` begins, shown until the end."""
    kept = round(FRAMES * (1 - share))
    return np.concatenate(
        [clips[:, :kept], np.repeat(clips[:, kept - 1 : kept], FRAMES - kept, axis=1)], axis=1
    )


@pytest.fixture(scope="module")
def features():
    """Of one set of clips as they are, and with their last quarter frozen."""
    clips = draw_clips(CONFIG.seed, count=CONFIG.clips + POOL, frames=FRAMES, size=16, limits=Limits(1, 60))
    parts = [
        LabelledClips(clips.clips[rows], {name: labels[rows] for name, labels in clips.labels.items()})
        for rows in (slice(CONFIG.clips), slice(CONFIG.clips, None))
    ]
    model, _, _ = train(parts[0], CONFIG)
    accuracy = accuracy_on(parts[1], model)
    assert min(accuracy["motion"], accuracy["colour"]) > 0.9, "a blind extractor would show nothing"
    extractor = Extractor(model, "")
    unseen = parts[1].clips
    return extractor.read(unseen).features, extractor.read(frozen(unseen, 1 / 4)).features


def decisions(features, *, candidate, runs, samples, permutations):
    """Verdicts under the policy of params.yaml on models whose clips are drawn anew in every run."""
    policy = Params.load(REPOSITORY / "params.yaml").gate
    policy = policy.model_copy(update={"min_samples": samples, "permutations": permutations})
    sides = {name: contestant(name, seed=0, samples=samples) for name in ("candidate", "champion")}
    found = []
    for run in range(runs):
        order = np.random.default_rng(run).permutation(POOL)
        reference, one, other = np.split(order, [REFERENCE, REFERENCE + samples])
        real = features[0][reference].astype(float)
        found.append(
            decide(
                with_features(sides["candidate"], candidate[one].astype(float), real),
                with_features(sides["champion"], features[0][other[:samples]].astype(float), real),
                policy.model_copy(update={"seed": run}),
            ).decision
        )
    return found


def test_of_equal_models_at_most_seven_percent_replace_each_other(features):
    """Exchanging the two models exchanges `promote` and `reject`, so each run is two trials."""
    found = decisions(features, candidate=features[0], runs=300, samples=128, permutations=39)
    assert found.count(Decision.PROMOTE) + found.count(Decision.REJECT) <= 0.07 * 2 * len(found)


def test_a_model_whose_last_quarter_is_frozen_is_always_refused_at_512_samples(features):
    found = decisions(features, candidate=features[1], runs=20, samples=512, permutations=99)
    assert set(found) == {Decision.REJECT}
