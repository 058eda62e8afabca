"""What becomes of a candidate that the ladder turned away, and of the champion's ladder; with a real MLflow."""

from components.artifacts import read_json, sha256_of
from components.ladder.record import LadderRecord, Rung
from components.registry.baseline import sync_baseline
from components.registry.ladder import sync_ladder
from components.registry.promote import promote_by_hand, promote_by_verdict
from components.registry.register import register_candidate
from components.registry.report import write_report
from components.registry.versions import TEXT_TO_VIDEO, with_alias
from models.generation.layout import TRANSFORMER
from tests.components.registry.contestants import contestant
from tests.components.registry.release_files import judge, make_release, reject_by_ladder, write_evaluation

REASON = "motion_energy of the small sample is 0.0001, at least 0.002 is asked"


def rejected_second(root):
    """A champion, and a candidate that never was evaluated."""
    params = make_release(root, seed=1, damage=0.0)
    promote_by_verdict(root, params, register_candidate(root, params))
    params = make_release(root, seed=2, damage=0.0)
    reject_by_ladder(root, REASON)
    sync_baseline(root, params)
    judge(root, params)
    return params, register_candidate(root, params)


def test_who_is_turned_away_ends_with_a_verdict_a_reason_and_a_line_in_the_history(root):
    params, numbers = rejected_second(root)
    verdict = read_json(root / "artifacts/gate/verdict.json")
    assert (verdict["verdict"], verdict["reason"]) == ("rejected by the ladder", REASON)
    assert verdict["candidate"]["model_sha256"] == sha256_of(root / "artifacts/pipeline")
    said = promote_by_verdict(root, params, numbers)
    assert "stays a candidate: rejected by the ladder" in said
    assert with_alias(root, TEXT_TO_VIDEO, "champion").number == 1
    candidate = with_alias(root, TEXT_TO_VIDEO, "candidate")
    assert (candidate.number, candidate.tags["verdict"]) == (2, "rejected by the ladder")
    page = write_report(root).read_text()
    assert "<h1>Rejected by the ladder</h1>" in page
    assert "at least 0.002 is asked" in page
    (kept_back,) = [line for line in page.split("<tr>") if "kept back" in line]
    assert "Motion energy" in kept_back or "motion_energy" in kept_back


def test_one_that_was_promoted_in_spite_of_it_can_still_be_challenged(root, monkeypatch):
    """Its evaluation is made when the next candidate needs it."""
    rejected_second(root)
    promote_by_hand(root, 2, person="A. Reviewer", reason="the floor is too high for still lives")
    params = make_release(root, seed=3, damage=0.0)
    asked = []

    def evaluate(_root, _params, pipeline, output):
        asked.append(sha256_of(pipeline))
        (root / "artifacts/evaluate").rename(output)

    monkeypatch.setattr("components.registry.baseline.evaluate_model", evaluate)
    assert sync_baseline(root, params)
    assert asked == [with_alias(root, TEXT_TO_VIDEO, "champion").digest]


def test_the_champions_ladder_comes_out_of_the_registry(root):
    params = make_release(root, seed=1)
    assert not sync_ladder(root, params)  # nobody is champion
    record = LadderRecord({}, {"validation_loss": "validation_loss@a"}, 3, 3, [Rung(3, {}, 0.5, {"a": 0.5})])
    record.write(root / "artifacts/pipeline" / TRANSFORMER)
    params = judge_again(root, params)
    promote_by_verdict(root, params, register_candidate(root, params))
    before = sha256_of(root / params.ladder.champion)
    assert not sync_ladder(root, params), (
        "the champion is this workspace's model: a second run finds nothing to do"
    )
    assert sha256_of(root / params.ladder.champion) == before
    make_release(root, seed=2)
    assert sync_ladder(root, params)
    assert LadderRecord.read(root / params.ladder.champion) == record
    assert not sync_ladder(root, params)


def judge_again(root, params):
    """The evaluation of the model as it is now."""
    digest = sha256_of(root / "artifacts/pipeline")
    write_evaluation(root / "artifacts/evaluate", contestant(digest, seed=1, damage=0.5))
    judge(root, params)
    return params


def test_a_champion_without_a_ladder_is_said_to_have_none(root):
    params = make_release(root, seed=1)
    promote_by_verdict(root, params, register_candidate(root, params))
    make_release(root, seed=2)
    assert sync_ladder(root, params)
    assert LadderRecord.read(root / params.ladder.champion) is None
    assert read_json(root / params.ladder.champion / "champion.json")["champion"]
