"""The sweep: what it says a threshold keeps is what the filter keeps with that threshold."""

import numpy as np
import pyarrow as pa
import pytest

from components.artifacts import StagePaths
from components.data import filter as filtering
from components.data import store
from components.data.config import FilterConfig
from components.data.sweep import Range, sweep_table
from components.errors import DataQualityError, UserError

CONFIG = FilterConfig(
    min_motion=0.2,
    min_sharpness=1.0,
    max_text_share=0.05,
    min_brightness=0.1,
    max_brightness=0.9,
    max_rejected_share=1.0,
)
CLIPS = 400


@pytest.fixture
def scored(tmp_path):
    """A workspace after the score stage: random scores, some missing, some equal to a threshold."""

    def make(modes=None):
        generator = np.random.default_rng(3)
        columns = {
            "motion": generator.exponential(0.5, CLIPS),
            "sharpness": generator.lognormal(1, 1, CLIPS),
            "text_share": generator.exponential(0.02, CLIPS),
            "brightness": generator.uniform(0, 1, CLIPS),
        }
        columns["motion"][:5] = np.float32(0.2)
        missing = np.arange(CLIPS) % 40 == 7
        ids = pa.array([f"{index:016x}" for index in range(CLIPS)])
        table = pa.table(
            {"clip_id": ids, **{k: pa.array(v, pa.float32(), mask=missing) for k, v in columns.items()}}
        )
        store.create(tmp_path, "clips", pa.table({"clip_id": ids}), "split").write(tmp_path / "split.json")
        notes = dict.fromkeys(("motion", "sharpness", "text", "brightness"), "enable") | (modes or {})
        manifest = store.add_columns(tmp_path, tmp_path / "split.json", table, "score", notes=notes)
        manifest.write(tmp_path / "artifacts/clips/score.json")
        return tmp_path

    return make


def passed_by_the_filter(root, config):
    paths = StagePaths(
        root,
        {"clips": root / "artifacts/clips/score.json"},
        {"clips": root / "artifacts/clips/filter.json"},
        root,
    )
    try:
        return filtering.run(config, paths).counts["passed"]
    except DataQualityError:  # nothing is left
        return 0


def test_a_trial_keeps_what_the_filter_keeps_with_that_threshold(scored):
    root = scored()
    for found in sweep_table(root, CONFIG, values=Range(steps=3)):
        name = found.rule.threshold
        for trial in found.trials:
            config = CONFIG.model_copy(update={name: trial.threshold})
            assert trial.joint == passed_by_the_filter(root, config), (name, trial)


def test_a_rule_alone_keeps_the_clips_on_its_side_and_none_without_a_score(scored):
    root = scored()
    (found,) = sweep_table(root, CONFIG, "min_motion", Range(0.2, 0.2, 1))
    values = store.read(root, root / "artifacts/clips/score.json", ["motion"])["motion"].to_pylist()
    assert found.trials[0].alone == sum(v is not None and v >= np.float32(0.2) for v in values)
    assert found.scored == CLIPS - 10


def test_the_current_threshold_is_marked_and_trials_go_from_lenient_to_strict(scored):
    for found in sweep_table(scored(), CONFIG):
        assert [trial.threshold for trial in found.trials if trial.current] == [
            getattr(CONFIG, found.rule.threshold)
        ]
        kept = [trial.alone for trial in found.trials]
        assert kept == sorted(kept, reverse=True)


def test_a_score_only_scorer_can_be_tried_and_counts_in_no_other_sweep(scored):
    root = scored(modes={"motion": "score-only"})
    (motion,) = sweep_table(root, CONFIG, "min_motion")
    assert motion.mode == "score-only"
    (sharpness,) = sweep_table(root, CONFIG, "sharpness")
    current = next(trial for trial in sharpness.trials if trial.current)
    assert current.joint == passed_by_the_filter(root, CONFIG)


def test_a_threshold_that_is_not_set_can_be_tried_too(scored):
    lower, upper = sweep_table(scored(), CONFIG, "motion")
    assert (lower.rule.threshold, upper.rule.threshold) == ("min_motion", "max_motion")
    assert not any(trial.current for trial in upper.trials)


def test_nothing_is_computed_or_written(scored):
    root = scored()
    before = sorted(path for path in root.rglob("*"))
    sweep_table(root, CONFIG)
    assert sorted(path for path in root.rglob("*")) == before


def test_an_unknown_metric_names_the_known_ones(scored):
    with pytest.raises(UserError, match="motion, sharpness, text_share"):
        sweep_table(scored(), CONFIG, "beauty")


def test_a_metric_without_scores_says_how_to_get_them(scored):
    with pytest.raises(UserError, match="switch its scorer on"):
        sweep_table(scored(), CONFIG, "aesthetic")


def test_a_range_that_goes_down_is_refused(scored):
    with pytest.raises(UserError, match="first bound"):
        sweep_table(scored(), CONFIG, "motion", Range(2.0, 1.0))
