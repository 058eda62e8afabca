"""The filter: thresholds over stored scores, every reason kept."""

import pyarrow as pa
import pytest

from components.artifacts import StagePaths
from components.data import filter as filtering
from components.data import store
from components.data.config import FilterConfig, SelectionConfig
from components.data.sweep import selection_counts
from components.errors import DataQualityError, UserError

CONFIG = FilterConfig(
    min_motion=0.1,
    min_sharpness=1.0,
    max_text_share=0.02,
    min_brightness=0.05,
    max_brightness=0.9,
    max_rejected_share=0.9,
)
GOOD = {"motion": 1.0, "sharpness": 5.0, "text_share": 0.0, "brightness": 0.5}
CLIPS = {
    "good": GOOD,
    "still and soft": {**GOOD, "motion": 0.0, "sharpness": 0.5},
    "night": {**GOOD, "brightness": 0.01},
    "snow": {**GOOD, "brightness": 0.99},
    "subtitles": {**GOOD, "text_share": 0.3},
    "on the edge": {"motion": 0.1, "sharpness": 1.0, "text_share": 0.02, "brightness": 0.9},
}


@pytest.fixture
def filtered(tmp_path):
    """Run the stage on clips given by their scores: (report, name -> reasons)."""

    def run(clips, modes=None, config=CONFIG, frames=None):
        table = pa.table({"clip_id": list(clips), "source": [f"{name}.mp4" for name in clips]})
        if frames:
            table = table.append_column("frames", pa.array([frames[name] for name in clips], pa.int64()))
        columns = {
            name: pa.array([scores[name] for scores in clips.values()], pa.float32())
            for name in ("motion", "sharpness", "text_share", "brightness")
        }
        paths = StagePaths(
            root=tmp_path,
            inputs={"clips": tmp_path / "score.json"},
            outputs={"clips": tmp_path / "filter.json"},
            checkpoints=tmp_path,
        )
        store.create(tmp_path, "clips", table, "split").write(tmp_path / "split.json")
        scores = pa.table({"clip_id": list(clips), **columns})
        notes = modes and {"motion": "enable", "sharpness": "enable", "text": "enable", **modes}
        manifest = store.add_columns(tmp_path, tmp_path / "split.json", scores, "score", notes=notes)
        manifest.write(paths.inputs["clips"])
        report = filtering.run(config, paths)
        rows = store.read(tmp_path, paths.outputs["clips"]).to_pydict()
        return report, dict(zip(rows["clip_id"], rows["reasons"], strict=True))

    return run


def test_each_threshold_rejects_with_its_own_reason_and_a_clip_keeps_all_of_them(filtered):
    report, reasons = filtered(CLIPS)
    assert reasons == {
        "good": [],
        "still and soft": ["too_static", "blurry"],
        "night": ["too_dark"],
        "snow": ["too_bright"],
        "subtitles": ["text_overlay"],
        "on the edge": [],
    }
    assert report.counts == {"clips": 6, "passed": 2, "rejected": 4}
    assert report.reasons["too_bright"] == 1


def test_counts_balance(filtered):
    counts = filtered(CLIPS)[0].counts
    assert counts["clips"] == counts["passed"] + counts["rejected"]


@pytest.mark.parametrize("mode", ["score-only", "disable"])
def test_a_scorer_that_is_not_enabled_never_rejects(filtered, mode):
    value = None if mode == "disable" else 0.0
    clips = {name: {**scores, "motion": value} for name, scores in CLIPS.items()}
    report, reasons = filtered(clips, modes={"motion": mode})
    assert reasons["good"] == []
    assert "too_static" not in report.reasons
    assert "unscored" not in report.reasons
    assert report.notes == ["not filtered on, by the parameters of `score`: motion"]


def test_a_clip_that_an_enabled_scorer_could_not_read_is_named(filtered):
    clips = {**CLIPS, "damaged": dict.fromkeys(GOOD)}
    assert filtered(clips)[1]["damaged"] == ["unscored"]


def test_too_few_clips_left_fails_with_the_distribution_and_the_way_out(filtered):
    clips = {str(index): {**GOOD, "motion": index / 1000} for index in range(20)}
    with pytest.raises(DataQualityError) as failure:
        filtered(clips)
    message = str(failure.value)
    assert "20 of 20 clips are rejected" in message
    assert "20 too_static: motion is 0.00095 / 0.0095 / 0.01805" in message
    assert "filter.min_motion is 0.1" in message
    assert "score-only" in message


def test_no_clip_left_fails_even_where_any_share_may_be_rejected(filtered):
    clips = {"a": {**GOOD, "motion": 0.0}}
    with pytest.raises(DataQualityError):
        filtered(clips, config=CONFIG.model_copy(update={"max_rejected_share": 1.0}))


def test_no_clips_at_all_fails_by_the_name_of_the_stage(filtered):
    with pytest.raises(DataQualityError, match="filter: there are no clips"):
        filtered({})


def test_a_picture_is_not_asked_how_it_moves(filtered):
    clips = {name: {**GOOD, "motion": None, "sharpness": 9.0} for name in ("picture", "unread video")}
    report, reasons = filtered(clips, frames={"picture": 1, "unread video": 40})
    assert reasons == {"picture": [], "unread video": ["unscored"]}
    assert report.balance == {"clips": {"in": 2, "kept": 1, "unscored": 1}}


def test_a_clip_counts_once_in_the_balance_whatever_speaks_against_it(filtered):
    report, _ = filtered(CLIPS)
    assert report.balance["clips"] == {
        "in": 6,
        "kept": 2,
        "too_static": 1,
        "too_dark": 1,
        "too_bright": 1,
        "text_overlay": 1,
    }


def selecting(**selections):
    named = {name: SelectionConfig(**thresholds) for name, thresholds in selections.items()}
    return CONFIG.model_copy(update={"selections": named})


def test_selections_are_named_subsets_of_what_passes(filtered, tmp_path):
    clips = {**CLIPS, "fast": {**GOOD, "motion": 3.0}}
    config = selecting(
        stage1={}, stage2={"min_motion": 0.5}, stage3={"min_motion": 2.0, "min_sharpness": 4.0}
    )
    report, _ = filtered(clips, config=config)
    rows = store.read(tmp_path, tmp_path / "filter.json").to_pydict()
    chosen = dict(zip(rows["clip_id"], rows["selections"], strict=True))
    assert {name: kept for name, kept in chosen.items() if kept} == {
        "good": ["stage1", "stage2"],
        "on the edge": ["stage1"],
        "fast": ["stage1", "stage2", "stage3"],
    }
    counted = {"stage1": 3, "stage2": 2, "stage3": 1}
    assert {name: report.counts[f"selected_{name}"] for name in counted} == counted
    (tmp_path / "artifacts/clips").mkdir(parents=True)
    (tmp_path / "score.json").rename(tmp_path / "artifacts/clips/score.json")
    assert selection_counts(tmp_path, config) == counted


def test_without_selections_the_table_has_no_such_column(filtered, tmp_path):
    filtered(CLIPS)
    assert "selections" not in store.Manifest.read(tmp_path / "filter.json").columns


def test_a_selection_by_a_score_that_nobody_made_is_refused(filtered):
    with pytest.raises(UserError, match=r"filter.selections.stage2.min_aesthetic: no clip .* `aesthetic` on"):
        filtered(CLIPS, config=selecting(stage2={"min_aesthetic": 4.5}))


def test_small_pictures_are_rejected_by_their_shorter_side(tmp_path):
    table = pa.table({"clip_id": ["a", "b", "c"], "height": [720, 1280, 719], "width": [1280, 720, 1280]})
    columns = {name: pa.array([value] * 3, pa.float32()) for name, value in GOOD.items()}
    store.create(tmp_path, "clips", table, "split").write(tmp_path / "split.json")
    scores = pa.table({"clip_id": ["a", "b", "c"], **columns})
    store.add_columns(tmp_path, tmp_path / "split.json", scores, "score").write(tmp_path / "score.json")
    found = filtering.read_scores(tmp_path, tmp_path / "score.json")
    config = CONFIG.model_copy(update={"min_side": 720})
    rules = filtering.enabled_rules(config, store.Manifest.read(tmp_path / "score.json"))
    marks = filtering.judge(found, rules, config)
    assert filtering.reason_lists(marks, rules).to_pylist() == [[], [], ["too_small"]]
