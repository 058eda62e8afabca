import json

from flows.eta import REMEMBERED, Eta


def test_remaining_time_follows_the_pace_of_this_run(tmp_path):
    eta = Eta(tmp_path)
    eta.plan(["footage", "ingest", "split"])
    eta.expected = {"footage": 100.0, "ingest": 100.0, "split": 100.0}
    assert eta.left("", 0.0) == 300.0
    eta.finished("footage", 200.0, ran=True)
    assert 300.0 < eta.left("", 0.0) < 400.0  # twice as slow, one stage known
    assert eta.left("ingest", 0.5) < eta.left("ingest", 0.0)


def test_a_cached_stage_says_nothing_of_the_pace(tmp_path):
    eta = Eta(tmp_path)
    eta.plan(["footage", "ingest"])
    eta.finished("footage", 0.0, ran=False)
    assert eta.pace() == 1.0


def test_what_stages_took_is_remembered_for_the_next_run(tmp_path):
    eta = Eta(tmp_path)
    eta.plan(["footage"])
    eta.finished("footage", 12.34, ran=True)
    eta.remember()
    assert json.loads((tmp_path / REMEMBERED).read_text()) == {"footage": 12.3}
    again = Eta(tmp_path)
    again.plan(["footage"])
    assert again.left("", 0.0) == 12.3
