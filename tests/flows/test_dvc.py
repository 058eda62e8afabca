import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from components.__main__ import _leave
from components.errors import Interruption, ParamsError
from components.params import Params
from components.stages import STAGES, stages_of
from flows.dvc import KEPT_LINES, StageFailed, StageRefused, _failure, changed, descendants, reproduce
from flows.observe import parse_progress

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def params() -> Params:
    return Params.load(ROOT / "params.yaml")


def test_a_changed_stage_takes_along_everything_that_reads_what_it_writes(params):
    assert descendants({"train@stage3"}, ROOT, params) == {"train@stage3", *SHARED_END}
    assert descendants({"gate"}, ROOT, params) == {"gate"}
    assert descendants({"footage"}, ROOT, params) == set(stages_of(params)) - {"extractor"}
    assert descendants(set(), ROOT, params) == set()


def test_the_table_is_in_running_order(params):
    written: list[Path] = []
    for stage in STAGES.values():
        paths = stage.paths(Path(), params)
        made_later = {
            other
            for later in STAGES.values()
            for other in later.paths(Path(), params).outputs.values()
            if other not in written
        }
        assert not made_later & set(paths.inputs.values()), stage.name
        written += paths.outputs.values()


SHARED_END = {"package", "ladder", "evaluate", "gate"}


@pytest.mark.parametrize(
    ("recipe", "changed", "expected"),
    [
        ("hdvila_tiny", "hdvila@stage1", {"hdvila@stage1", "hdvila@stage2", *SHARED_END}),
        ("walt_tiny", "walt@base", {"walt@base", "walt@wide", "walt_cascade", *SHARED_END}),
        ("walt_tiny", "walt@super_resolution_1", {"walt@super_resolution_1", "walt_cascade"}),
        ("causal_tiny", "causal@stage2", {"causal@stage2", *SHARED_END}),
    ],
)
def test_in_another_system_what_follows_a_stage_ends_in_the_shared_ones(recipe, changed, expected):
    params = Params.load(ROOT / f"recipes/{recipe}.yaml")
    assert descendants({changed}, ROOT, params) == expected
    system = changed.partition("@")[0]
    assert {stage.system for stage in stages_of(params).values()} == {None, system}


def test_a_recipe_without_the_sections_of_its_system_is_refused(params):
    other = params.model_copy(
        update={"candidate": params.candidate.model_copy(update={"transformer": "artifacts/walt/wide"})}
    )
    with pytest.raises(ParamsError, match="no section `walt"):
        stages_of(other)
    nothing = params.candidate.model_copy(update={"transformer": "artifacts/elsewhere"})
    with pytest.raises(ParamsError, match="no stage makes artifacts/elsewhere; use one of"):
        stages_of(params.model_copy(update={"candidate": nothing}))


@pytest.mark.parametrize("recipe", ["demo", "hdvila_tiny"])
def test_dvc_is_asked_about_the_stages_of_the_recipe_alone(tmp_path, recipe):
    """In a fresh workspace everything is changed: all stages of the system, none of another one."""
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    for name in ("components", "models", "pipelines", "registry", "baseline", "data_baseline"):
        (tmp_path / name).symlink_to(ROOT / name)
    shutil.copytree(ROOT / ".dvc", tmp_path / ".dvc", ignore=shutil.ignore_patterns("tmp", "cache"))
    shutil.copy(ROOT / "dvc.yaml", tmp_path)
    shutil.copy(ROOT / f"recipes/{recipe}.yaml", tmp_path / "params.yaml")
    params = Params.load(tmp_path / "params.yaml")
    assert changed(tmp_path, params) == set(stages_of(params))


def test_exit_code_2_is_the_users_to_mend_and_not_tried_again():
    lines = ["Running stage 'ingest':", "ingest: x is empty", "ERROR: failed to run: python, exited with 2"]
    failure = _failure("ingest", lines)
    assert isinstance(failure, StageRefused)
    assert str(failure) == "ingest: x is empty"


def test_all_lines_of_what_a_stage_refused_reach_the_user(capsys, tmp_path):
    message = "ingest: none of the 2 videos can be used:\n  a.mp4: truncated\n  b.mp4: no_video\nRepair them."
    assert _leave("ingest", tmp_path, message, 2) == 2
    said = capsys.readouterr().err.splitlines()
    failure = _failure("ingest", ["12:00:00  INFO  x", *said, "ERROR: failed to run: python, exited with 2"])
    assert isinstance(failure, StageRefused)
    assert str(failure) == message


@pytest.mark.parametrize(("code", "mendable"), [(1, True), (-9, True), (2, False)])
def test_other_exits_may_be_tried_again_unless_a_person_must_mend_something(code, mendable):
    failure = _failure("ingest", [f"ERROR: failed to run: python, exited with {code}"])
    assert isinstance(failure, StageFailed)
    assert failure.mendable is mendable


@pytest.mark.parametrize("code", [130, 143])
def test_a_stage_that_was_asked_to_stop_has_not_failed(code):
    lines = [
        "train@stage1: stopped at step 7/12 on request",
        f"ERROR: failed to run: python, exited with {code}",
    ]
    failure = _failure("train@stage1", lines)
    assert isinstance(failure, Interruption)
    assert "step 7/12" in str(failure)
    assert failure.exit_code == code


def test_a_stage_of_many_lines_ran_and_the_second_time_it_did_not(tmp_path):
    pipeline = {"stages": {"talk": {"cmd": f"seq {2 * KEPT_LINES} | tee said.txt", "outs": ["said.txt"]}}}
    (tmp_path / "dvc.yaml").write_text(json.dumps(pipeline))
    subprocess.run([sys.executable, "-m", "dvc", "init", "--no-scm", "--quiet"], cwd=tmp_path, check=True)
    heard: list[str] = []

    def run() -> bool:
        return reproduce("talk", tmp_path, on_line=heard.append, parent_run=None, hours=1)

    assert run()
    assert str(2 * KEPT_LINES) in heard
    assert not run()


SLEEPER = "import pathlib, time; pathlib.Path('begun').touch(); time.sleep(60)"
BACKGROUND_JOB = """
import signal, sys
from pathlib import Path
from flows.dvc import reproduce
signal.signal(signal.SIGINT, signal.SIG_IGN)  # as a shell does to a background job of a script
signal.signal(signal.SIGTERM, signal.default_int_handler)
reproduce("sleep", Path(sys.argv[1]), on_line=print, parent_run=None, hours=1)
"""


def test_a_stage_stops_although_its_flow_was_started_to_ignore_interruptions(tmp_path):
    command = f'{sys.executable} -c "{SLEEPER}"'
    (tmp_path / "dvc.yaml").write_text(json.dumps({"stages": {"sleep": {"cmd": command}}}))
    subprocess.run([sys.executable, "-m", "dvc", "init", "--no-scm", "--quiet"], cwd=tmp_path, check=True)
    flow = subprocess.Popen([sys.executable, "-c", BACKGROUND_JOB, str(tmp_path)], cwd=ROOT)
    while not (tmp_path / "begun").exists():
        assert flow.poll() is None
        time.sleep(0.05)
    (stage,) = [
        each for each in psutil.Process(flow.pid).children(recursive=True) if SLEEPER in each.cmdline()
    ]
    flow.terminate()
    try:
        stage.wait(30)  # half of what it would sleep
    finally:
        flow.wait(60)


def test_a_stage_that_hangs_and_says_nothing_is_ended_at_its_time_limit(tmp_path):
    command = f'{sys.executable} -c "{SLEEPER}"'
    (tmp_path / "dvc.yaml").write_text(json.dumps({"stages": {"sleep": {"cmd": command}}}))
    subprocess.run([sys.executable, "-m", "dvc", "init", "--no-scm", "--quiet"], cwd=tmp_path, check=True)
    began = time.monotonic()
    with pytest.raises(StageFailed, match=r"runtime\.stage_hours"):
        reproduce("sleep", tmp_path, on_line=print, parent_run=None, hours=6 / 3600)
    assert time.monotonic() - began < 40  # it would sleep for 60 seconds
    commands = [each.cmdline() for each in psutil.Process().children(recursive=True)]
    assert not [each for each in commands if SLEEPER in each]


def test_progress_lines_are_read_and_others_are_not(capsys, monkeypatch):
    monkeypatch.setenv("REELFORGE_PROGRESS", "json")
    from components.progress import progress

    with progress("stage", 2) as advance:
        advance(2, "loss 0.5")
    line = capsys.readouterr().out.strip()
    found = parse_progress(line)
    assert found is not None
    assert (found.title, found.done, found.total, found.text) == ("stage", 2, 2, "loss 0.5")
    assert parse_progress("step 1 of 2") is None
