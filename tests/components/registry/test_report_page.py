"""The report page as a person gets it: opened from disk in a browser, with nothing else around."""

import shutil
from dataclasses import asdict
from pathlib import Path

import pytest

from components.evaluation.record import EvaluationRecord
from components.page.charts import line_chart, round_values, thin
from components.page.words import duration
from components.params import Params
from components.planning.devices import PRICE
from components.registry.page.cost import cost_of
from components.registry.page.scores import metric_rows, sentence
from components.registry.page.words import number
from components.registry.policy.decide import decide
from components.registry.report import publish_report, write_report
from components.registry.versions import TEXT_TO_VIDEO, with_alias
from components.tracking import RunSummary
from components.tracking_writer import connect
from tests.components.registry.contestants import contestant, with_metric
from tests.components.registry.report_files import make_finished, make_rival
from tests.pages import VIEWPORTS, check_all_videos_play, check_opens_quietly_and_fits

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def page_path(tmp_path_factory, empty_database):
    root = tmp_path_factory.mktemp("finished")
    shutil.copyfile(empty_database, root / "mlflow.db")
    return write_report(make_finished(root, samples=6))


def test_the_page_stands_alone(page_path):
    text = page_path.read_text()
    assert "http://" not in text.replace("http://www.w3.org", "")
    assert "https://" not in text
    assert text.count("data:video/mp4;base64,") == 6 + 2 * 6


def test_the_verdict_comes_first(page_path):
    text = page_path.read_text()
    order = [
        "<h1>Promoted</h1>",
        "Toy FVD",
        "Generated videos",
        "<h2>Metrics",
        "<h2>Ladder",
        "<h2>Training",
        "<h2>Data",
        "<h2>Origin",
    ]
    places = [text.index(part) for part in order]
    assert places == sorted(places)


def test_a_prompt_cannot_break_out_of_the_page(root):
    make_finished(root, samples=1)
    record = root / "artifacts/evaluate/record.json"
    prompt = EvaluationRecord.read(record.parent).gallery[0].prompt
    record.write_text(record.read_text().replace(prompt, "<script>alert(1)</script>"))
    text = write_report(root).read_text()
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert" in text


def test_a_reason_names_metrics_as_the_page_does_and_leaves_code_as_it_is():
    said = str(sentence("toy_fvd is `toy_fvd@3c47` for <the> candidate"))
    assert said == "Toy FVD is <code>toy_fvd@3c47</code> for &lt;the&gt; candidate."
    assert str(sentence("`toy_fvd` is missing")) == "<code>toy_fvd</code> is missing."


def test_a_workspace_that_has_not_run_yet_gets_a_page_that_says_so(tmp_path):
    (tmp_path / "params.yaml").write_text((REPOSITORY / "params.yaml").read_text())
    text = write_report(tmp_path).read_text()
    assert "Not judged yet" in text
    assert "<code>reelforge run</code>" in text
    assert Params.load(tmp_path / "params.yaml").recipe in text


def test_the_ladder_says_what_every_look_found_and_what_was_asked(page_path):
    ladder = section(page_path, "ladder")
    assert ladder.count("<tr>") == 1 + 2
    second = ladder.split("<tr>")[-1]
    assert [word in second for word in ("500", "0.290", "4.800", "–", "best", "used")] == [True] * 6
    assert "two different measurements" in ladder


def test_held_out_losses_stand_beside_the_training_loss(page_path):
    """Two looks of one stage: two marks of the second series."""
    curves = section(page_path, "curves")
    assert curves.count('class="line second"') == 1
    assert curves.count('class="end second"') == 2
    assert "<i>0.29</i>" in curves


def test_curves_are_those_of_the_system_that_is_trained(page_path):
    """The workspace holds curve files of all systems."""
    curves = section(page_path, "curves")
    assert "masks" in curves
    assert "hdvila" not in curves
    assert "super resolution" not in curves


def test_the_data_is_told_in_clips_hours_and_sources(page_path):
    """Two kept training clips of 1.5 s, one of 36 s for validation, one duplicate; see `release_files`."""
    data = section(page_path, "data")
    for said in ("2 clips", "0.001 hours, 1 source", "0.010 hours, 1 source", "of 4; why is told below"):
        assert said in data


def test_what_the_model_was_made_from_is_told_by_its_digests_in_dvc(page_path):
    origin = section(page_path, "origin")
    assert "Data, in DVC" in origin
    assert "md5:0f343b0931126a20f133d67c2b018a3b" in origin
    assert "md5:7d793037a0760186574b0282f2f435e7.dir" in origin


def section(page: Path, name: str) -> str:
    return page.read_text().split(f'<section id="{name}">')[1].split("</section>")[0]


def run_of(seconds: float, run_id: str = "a", link: str = "", **more: float | str) -> RunSummary:
    """A stage's run; metrics by their names, `gpu` as the tag."""
    metrics = {name: value for name, value in more.items() if not isinstance(value, str)}
    return RunSummary(run_id, seconds, 1500.0, {"machine.gpu": str(more.get("gpu", ""))}, metrics, link)


def test_gpu_hours_are_those_of_all_gpus_and_cost_the_planners_price():
    params = Params.load(REPOSITORY / "params.yaml")
    nodes = params.runtime.model_copy(
        update={"launch": params.runtime.launch.model_copy(update={"kind": "torchrun", "nodes": 3})}
    )
    cost = cost_of(
        {
            "split": run_of(7200, gpu="1 x NVIDIA H100"),  # reads videos on one machine
            "train@stage3": run_of(3600, gpu="8 x NVIDIA H100"),  # on each of three nodes
        },
        params.model_copy(update={"runtime": nodes}),
    )
    assert [stage.gpu_hours for stage in cost.stages] == [2.0, 24.0]
    told = {total.title: total for total in cost.totals}
    assert told["GPU-hours"].value == "26.0"
    assert told["GPU-hours"].note.startswith(f"{26 * PRICE:.2f} dollars at {PRICE:g}")
    assert told["Time"].value == "3 h 00 min"


def test_without_gpus_the_cost_is_processor_time():
    params = Params.load(REPOSITORY / "params.yaml")
    cost = cost_of({"score": run_of(60, **{"system/cpu_seconds": 5400.0})}, params)
    told = {total.title: total.value for total in cost.totals}
    assert told == {"Time": "1 min 00 s", "Core-hours": "1.5", "Peak memory": "1.5 GB"}
    assert cost_of({}, params) is None


def test_the_page_goes_with_the_version_that_it_is_about(tmp_path, empty_database):
    """The tag of the registered version leads to it, in the version's own run."""
    shutil.copyfile(empty_database, tmp_path / "mlflow.db")
    page = publish_report(make_finished(tmp_path, samples=1))
    client = connect(tmp_path)
    version = with_alias(tmp_path, TEXT_TO_VIDEO, "candidate")
    place = version.tags["page"]
    assert place == f"runs:/{version.run_id}/page/index.html"
    run_id, _, inside = place.removeprefix("runs:/").partition("/")
    found = Path(client.download_artifacts(run_id, inside, str(tmp_path)))
    assert found.read_bytes() == page.read_bytes()
    assert f"version {version.number}" in found.read_text()


@pytest.mark.slow
@pytest.mark.parametrize(("width", "scheme"), VIEWPORTS, ids=str)
def test_the_page_opens_without_errors_or_requests_and_fits_its_window(browser, page_path, width, scheme):
    check_opens_quietly_and_fits(browser, page_path, width, scheme)


@pytest.mark.slow
def test_every_video_plays(browser, page_path):
    assert check_all_videos_play(browser, page_path) == 6 + 2 * 6


@pytest.fixture(scope="module")
def duel_page(tmp_path_factory, empty_database):
    """The page of a second model, judged against the first one, with the same prompts."""
    root = tmp_path_factory.mktemp("duel")
    shutil.copyfile(empty_database, root / "mlflow.db")
    make_finished(root, samples=4)
    make_rival(root, samples=4)
    return write_report(root)


def test_the_champions_video_of_the_same_prompt_stands_beside_each(duel_page):
    text = duel_page.read_text()
    assert text.count('aria-label="champion: ') == text.count('aria-label="candidate: ') == 4
    assert "plays in step" in text


@pytest.mark.slow
@pytest.mark.parametrize(("width", "scheme"), VIEWPORTS, ids=str)
def test_the_page_with_two_models_opens_without_errors_and_fits(browser, duel_page, width, scheme):
    check_opens_quietly_and_fits(browser, duel_page, width, scheme)


@pytest.mark.slow
def test_the_two_videos_of_a_prompt_play_in_step(browser, duel_page):
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto(duel_page.as_uri())
    page.evaluate("document.querySelector('.duel').scrollIntoView()")
    page.evaluate("""async () => {
      const [left, right] = document.querySelectorAll('.duel video');
      await Promise.all([left.play(), right.play()]);
      right.currentTime = right.duration / 2;
    }""")
    apart = """() => {
      const [left, right] = document.querySelectorAll('.duel video');
      const apart = Math.abs(left.currentTime - right.currentTime);
      return !left.paused && Math.min(apart, left.duration - apart) < 0.12;
    }"""
    page.wait_for_function(apart, timeout=20_000)
    page.close()


@pytest.mark.slow
def test_one_button_pauses_all_videos_and_plays_them_again(browser, page_path):
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto(page_path.as_uri())
    playing = "[...document.querySelectorAll('video')].filter((video) => !video.paused).length"
    page.get_by_role("button", name="Pause videos").click()
    assert page.evaluate(playing) == 0
    page.get_by_role("button", name="Play videos").click()
    page.wait_for_function(f"{playing} > 0")
    page.close()


@pytest.mark.slow
def test_who_asks_for_less_motion_gets_still_videos(browser, page_path):
    page = browser.new_page(viewport={"width": 1280, "height": 900}, reduced_motion="reduce")
    page.goto(page_path.as_uri())
    assert page.evaluate("[...document.querySelectorAll('video')].every((video) => video.paused)")
    page.close()


@pytest.mark.parametrize(
    "points", [[(0, 1.0)], [(0, 0.0), (5, 0.0)], [(1, 1e-6), (2, 10.0)], [(1, -2.0), (9, 3.0)]]
)
def test_a_curve_of_any_range_is_drawn_inside_its_frame(points):
    chart = str(line_chart(points, label="loss"))
    drawn = chart.split('points="')[1].split('"', maxsplit=1)[0].split()
    for pair in drawn:
        x, y = map(float, pair.split(","))
        assert 0 <= x <= 280
        assert 0 <= y <= 132


def test_a_long_curve_is_thinned_without_losing_its_level():
    points = [(step, float(step % 10)) for step in range(10_000)]
    thinned = thin(points, 100)
    assert len(thinned) == 100
    assert {y for _, y in thinned} == {4.5}


def test_ticks_are_round_numbers_in_the_range():
    assert round_values(0.0, 1.0, logarithmic=False) == [0.0, 0.5, 1.0]
    assert round_values(-2.0, 1.0, logarithmic=True) == [0.01, 0.1, 1.0, 10.0]


def test_numbers_are_said_as_people_say_them():
    assert number(0.9375, "colour_accuracy") == "93.8 %"
    assert number(25.0, "reconstruction_psnr", "dB") == "25.00 dB"
    assert number(None) == "–"
    assert (duration(3.21), duration(75), duration(7440)) == ("3.2 s", "1 min 15 s", "2 h 04 min")


def test_the_champions_column_holds_the_champions_number_and_not_that_of_the_frozen_baseline():
    candidate, champion, old = (
        contestant(name, seed=seed) for seed, name in enumerate(("new", "champion", "old"))
    )
    asked = {"margins": {"validation_loss": 0.1}, "frozen_margins": {"validation_loss": 0.2, "toy_fvd": 5.0}}
    old = with_metric(old, "validation_loss", value=0.45)
    policy = Params.load(REPOSITORY / "params.yaml").gate.model_copy(update={"min_samples": 64, **asked})
    verdict = decide(candidate, champion, policy, frozen=old)
    judged = {"findings": [asdict(finding) for finding in verdict.findings]}
    rows = {row.title: row for row in metric_rows(candidate.record, judged)}
    loss, distance = rows["Validation loss"], rows["Toy FVD"]
    assert loss.champion == "0.300"
    assert [check.text for check in loss.checks] == [
        "within margin 0.200 of the frozen baseline",
        "within margin 0.100",
    ]
    assert distance.champion == number(champion.value("toy_fvd"), "toy_fvd")
    assert "within margin 5.000 of the frozen baseline" in [check.text for check in distance.checks]
