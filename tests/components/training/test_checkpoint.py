"""Checkpoints are whole or not there, say when they are damaged, and only the work they belong to takes them up."""

import resource
import shutil
import time
from hashlib import sha256
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from components.artifacts import StagePaths, read_json, write_json
from components.errors import UserError
from components.training.background import Background
from components.training.checkpoint import Checkpoints, Progress, _Part, remove_checkpoints
from components.training.checkpoint_files import StoredTensors, rank_file, read_state
from components.training.checkpoint_names import newest_step
from components.training.ema import Ema
from components.training.engine import Engine
from components.training.fingerprint import Fingerprint, fingerprint_of
from components.training.loop import train
from components.training.program import Found
from tests.tiny_training import Regression, loop_config, loop_paths, run_tiny


def folders(root):
    return sorted(path.name for path in loop_paths(root).checkpoints.glob("*step-*"))


def stop_at(position):
    """A program that a defect ends before this position; what was saved by then stays."""

    def stop(now):
        if now == position:
            raise RuntimeError("power cut")

    return Regression(stop)


def run_to(root, position, config=None):
    with pytest.raises(RuntimeError, match="power cut"):
        run_tiny(root, config or loop_config(), stop_at(position))


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    program = Regression()
    run_tiny(tmp_path_factory.mktemp("straight"), loop_config(), program)
    return program.module.state_dict()


def assert_same(program, expected):
    assert all(torch.equal(program.module.state_dict()[name], value) for name, value in expected.items())


def test_the_newest_checkpoints_and_the_best_are_kept(tmp_path):
    config = loop_config(steps=30, checkpoint_steps=2, log_steps=2, keep_last_n=3)
    rising = Regression(lambda position: 1.0 + (position - 8) ** 2)  # losses are smallest around step 9
    run_tiny(tmp_path, config, rising)
    best = read_json(loop_paths(tmp_path).checkpoints / "best.json")
    assert 6 <= best["step"] <= 12
    assert folders(tmp_path) == [f"step-{best['step']:06d}", "step-000026", "step-000028", "step-000030"]
    scores = [read_state(loop_paths(tmp_path).checkpoints / name)["score"] for name in folders(tmp_path)]
    assert scores[0] == min(scores) == best["score"]
    remove_checkpoints(loop_paths(tmp_path))
    assert not loop_paths(tmp_path).checkpoints.exists()


def test_the_newest_of_a_million_steps_is_kept_and_taken_up(tmp_path):
    engine = Engine(Regression().module, loop_config())
    checkpoints = Checkpoints(tmp_path, Fingerprint("f"), keep_last_n=2)
    for step in (999_990, 999_995, 1_000_000):
        checkpoints.save(engine, Ema(engine.weights(), (0.9,)), Progress(step, {}))
    checkpoints.wait()
    engine.close()
    assert sorted(path.name for path in tmp_path.glob("step-*")) == ["step-1000000", "step-999995"]
    copy = tmp_path / "step-999990-copy"  # of somebody's own
    shutil.copytree(tmp_path / "step-999995", copy)
    again = Checkpoints(tmp_path, Fingerprint("f"))
    assert again.choose("latest") == again.back_to(1_000_001) == tmp_path / "step-1000000"
    assert newest_step(tmp_path) == 1_000_000
    assert again.choose("999995") == tmp_path / "step-999995"
    assert (tmp_path / "set-aside/step-1000000").is_dir()
    assert copy.is_dir()


def test_a_checkpoint_says_where_the_run_stood_and_what_it_was_made_from(tmp_path):
    run_tiny(tmp_path, loop_config(accumulation=2, ema=(0.9, 0.5)), Regression())
    folder = loop_paths(tmp_path).checkpoints / "step-000010"
    state = read_state(folder)
    assert {
        key: state[key] for key in ("step", "position", "step_batches", "seed", "world_size", "rows")
    } == {
        "step": 10,
        "position": 20,
        "step_batches": 2,
        "seed": 3,
        "world_size": 1,
        "rows": 2,  # log steps 4 and 8
    }
    assert state["adam_steps"] == dict.fromkeys(state["shapes"], 10)
    with safe_open(folder / "rank-00000.safetensors", framework="pt") as file:  # readable by anyone
        kinds = {key.split("/")[0] for key in file.keys()}  # noqa: SIM118
    assert kinds == {"weight", "exp_avg", "exp_avg_sq", "ema@0.9", "ema@0.5"}


def test_checkpoints_of_other_parameters_are_set_aside_and_the_run_starts_again(tmp_path, caplog):
    run_tiny(tmp_path, loop_config(), Regression(), fingerprint="old")
    program = Regression()
    assert run_tiny(tmp_path, loop_config(), program, fingerprint="new").resumed_at == 0
    assert len(program.losses) == 12
    assert "other parameters or inputs" in caplog.text
    checkpoints = loop_paths(tmp_path).checkpoints
    assert {read_state(path)["fingerprint"] for path in checkpoints.glob("step-*")} == {"new"}
    assert {read_state(path)["fingerprint"] for path in checkpoints.glob("set-aside/step-*")} == {"old"}


def test_a_checkpoint_that_a_kill_left_unfinished_is_not_taken_up(tmp_path):
    run_tiny(tmp_path, loop_config(), Regression())
    checkpoints = loop_paths(tmp_path).checkpoints
    (checkpoints / "step-000012").rename(checkpoints / ".step-000012.partial")
    (checkpoints / "step-000099").mkdir()  # without a state
    shutil.copytree(checkpoints / "step-000010", checkpoints / ".step-000013.partial")
    program = Regression()
    assert run_tiny(tmp_path, loop_config(), program).resumed_at == 10
    assert len(program.losses) == 2


def flip_a_byte(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut_short(path):
    path.write_bytes(path.read_bytes()[:-7])


@pytest.mark.parametrize("damage", [flip_a_byte, cut_short, lambda path: path.unlink()])
@pytest.mark.parametrize("name", ["rank-00000.safetensors", "state.json"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_is_taken(
    tmp_path, caplog, straight, damage, name
):
    run_to(tmp_path, 11)
    damage(loop_paths(tmp_path).checkpoints / "step-000010" / name)
    program = Regression()
    assert run_tiny(tmp_path, loop_config(), program).resumed_at == 5
    assert_same(program, straight)
    gone = name == "state.json" and not caplog.text.count(name)  # without its state it is no checkpoint
    assert gone or f"step-000010/{name}" in caplog.text


def test_where_no_checkpoint_is_whole_nothing_starts_silently_at_step_0(tmp_path):
    run_to(tmp_path, 6)
    flip_a_byte(loop_paths(tmp_path).checkpoints / "step-000005/rank-00000.safetensors")
    with pytest.raises(UserError, match=r"no checkpoint in .* is whole"):
        run_tiny(tmp_path, loop_config(), Regression())


@pytest.mark.parametrize(("resume", "at"), [("latest", 12), ("10", 10), ("best", 12), ("none", 0)])
def test_a_run_goes_on_from_the_checkpoint_that_was_asked_for(tmp_path, straight, resume, at):
    run_tiny(tmp_path, loop_config(), Regression())
    program = Regression()
    assert run_tiny(tmp_path, loop_config(), program, resume=resume).resumed_at == at
    assert len(program.losses) == 12 - at
    assert_same(program, straight)


def test_a_run_goes_on_from_a_folder_elsewhere(tmp_path, straight):
    run_to(tmp_path / "there", 7)
    program = Regression()
    source = str(loop_paths(tmp_path / "there").checkpoints / "step-000005")
    assert run_tiny(tmp_path / "here", loop_config(), program, resume=source).resumed_at == 5
    assert_same(program, straight)


@pytest.mark.parametrize("step", [10, 12])
def test_a_run_from_a_folder_elsewhere_has_the_whole_curve(tmp_path, step):
    """As after a backup was brought to another machine; at step 12 there is nothing left to train."""
    there, here = tmp_path / "there", tmp_path / "here"
    first = run_tiny(there, loop_config(), Regression()).first
    source = str(loop_paths(there).checkpoints / f"step-{step:06d}")
    assert run_tiny(here, loop_config(), Regression(), resume=source).first == first
    curves = [loop_paths(root).output("curve").read_bytes() for root in (there, here)]
    assert curves[0] == curves[1]


class Scores:
    """A look every 5 steps that finds these scores."""

    every, scores = 5, True

    def __init__(self, *scores):
        self.found = scores

    def look(self, _module, step):
        score = self.found[step // 5 - 1]
        return Found({"val/loss": score}, score)


def test_after_going_back_the_best_is_chosen_among_the_looks_whose_averages_are_there(tmp_path):
    config, paths = loop_config(steps=20, use="best"), loop_paths(tmp_path)
    work = {"fingerprint": Fingerprint("f"), "title": "tiny"}
    with pytest.raises(RuntimeError, match="power cut"):
        train(stop_at(16), config, paths, checks=[Scores(0.5, 0.9, 0.1)], **work)
    assert folders(tmp_path) == ["step-000010", "step-000015"]  # that of step 5 was no longer the best
    again = Scores(0.5, 0.9, 0.7, 0.8)
    result = train(Regression(), config, paths, resume="10", checks=[again], **work)
    assert result.used == 15


def test_a_step_that_is_not_there_is_refused_with_those_that_are(tmp_path):
    run_to(tmp_path, 11)
    with pytest.raises(UserError, match=r"there is no checkpoint .*step-000007; steps in .*: 5, 10"):
        run_tiny(tmp_path, loop_config(), Regression(), resume="7")


def test_a_checkpoint_of_other_work_is_refused_saying_what_differs(tmp_path):
    paths, config = loop_paths(tmp_path), loop_config()
    run_tiny(tmp_path, config, Regression(), fingerprint=fingerprint_of(config, paths))
    other = loop_config(seed=4)
    source = str(paths.checkpoints / "step-000010")
    with pytest.raises(UserError, match=r"other work: parameters.seed was 3 and is 4.*start_weights"):
        run_tiny(tmp_path / "b", other, Regression(), fingerprint=fingerprint_of(other, paths), resume=source)


def test_a_start_from_weights_takes_the_average_and_nothing_else(tmp_path):
    first = Regression()
    run_tiny(tmp_path, loop_config(), first)
    source = loop_paths(tmp_path).checkpoints / "step-000012"
    expected = Regression()
    expected.module.load_state_dict(first.module.state_dict())
    run_tiny(tmp_path / "expected", loop_config(seed=5), expected, fingerprint="e")
    program = Regression()
    config = loop_config(seed=5, start_weights=str(source))
    assert run_tiny(tmp_path / "started", config, program, fingerprint="s").resumed_at == 0
    assert_same(program, expected.module.state_dict())


def test_a_start_from_weights_of_another_model_is_refused(tmp_path):
    other = Regression()
    other.module = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.GELU(), torch.nn.Linear(8, 3))
    run_tiny(tmp_path, loop_config(), other)
    config = loop_config(start_weights=str(loop_paths(tmp_path).checkpoints / "step-000012"))
    with pytest.raises(UserError, match=r"does not fit.*0.weight is \(8, 6\) and must be \(16, 6\)"):
        run_tiny(tmp_path / "started", config, Regression())


def test_on_a_full_disk_the_last_checkpoint_stays_whole_and_the_error_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr("components.training.checkpoint.PAUSES", (0.01, 0.01))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(position):
        if position == 7:
            deadline = time.monotonic() + 30
            while folders(tmp_path) != ["step-000005"] and time.monotonic() < deadline:
                time.sleep(0.01)  # it is written beside the steps
            resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))

    try:
        with pytest.raises(UserError, match=r"step-000010 failed 3 times.*File too large.*Free space in"):
            run_tiny(tmp_path, loop_config(), Regression(fill))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [name for name in folders(tmp_path) if not name.startswith(".")] == ["step-000005"]
    program = Regression()
    assert run_tiny(tmp_path, loop_config(), program).resumed_at == 5


def test_a_store_that_makes_no_folder_for_a_while_is_waited_for(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("components.training.checkpoint.PAUSES", (0.01, 0.01))
    full, make = [True, True], Path.mkdir

    def full_at_first(self, *arguments, **named):
        if self.name == ".step-000005.partial" and full:
            full.pop()
            raise OSError("No space left on device")
        make(self, *arguments, **named)

    monkeypatch.setattr(Path, "mkdir", full_at_first)
    run_tiny(tmp_path, loop_config(steps=7), Regression())
    assert caplog.text.count("No space left on device") == 2
    assert folders(tmp_path) == ["step-000005", "step-000007"]


def test_a_store_that_fails_when_all_parts_are_there_needs_no_part_again(tmp_path, monkeypatch):
    part, partial = (
        _Part(0, 2, {"weight/a": torch.zeros(3)}, {"weight/a": 0}),
        tmp_path / ".step-000005.partial",
    )
    write_json(partial / "rank-00001.json", {"bytes": 0, "sha256": sha256(b"").hexdigest()})
    (partial / "rank-00001.safetensors").touch()  # of a process that has done its part and goes on
    tries = iter([OSError("stale file handle"), None])

    def sync_at_the_second_try(path):
        if path == partial and (error := next(tries)):
            raise error

    monkeypatch.setattr("components.training.checkpoint.sync", sync_at_the_second_try)
    monkeypatch.setattr("components.training.checkpoint.OTHERS_SECONDS", 1.0)
    checkpoints = Checkpoints(tmp_path, Fingerprint("f"), pauses=(0.01,))
    checkpoints.writer.start(
        lambda: checkpoints._write(partial, part, {"step": 5, "score": None}), "writing", ""
    )
    checkpoints.writer.wait()
    assert sorted(path.name for path in (tmp_path / "step-000005").iterdir()) == [
        "rank-00000.safetensors",
        "rank-00001.safetensors",
        "state.json",
    ]
    assert set(read_state(tmp_path / "step-000005")["files"]) == {rank_file(0), rank_file(1)}


def test_a_store_that_comes_back_is_waited_for(caplog):
    tries = []

    def work():
        tries.append(1)
        if len(tries) < 3:
            raise OSError("stale file handle")

    background = Background([0.01, 0.01])
    background.start(work, "writing", "")
    background.wait()
    assert len(tries) == 3
    assert caplog.text.count("stale file handle") == 2


def test_a_defect_of_the_writer_is_raised_where_the_run_sees_it():
    background = Background([0.01])

    def work():
        raise KeyError("shape")

    background.start(work, "writing", "")
    with pytest.raises(KeyError):
        background.wait()


def test_any_run_of_elements_can_be_read_from_a_checkpoint(tmp_path):
    run_tiny(tmp_path, loop_config(), Regression())
    stored = StoredTensors(loop_paths(tmp_path).checkpoints / "step-000012")
    whole = stored.read("weight", "0.weight", 0, 96)
    for start, count in ((0, 1), (5, 40), (90, 6), (96, 0)):
        assert torch.equal(stored.read("weight", "0.weight", start, count), whole[start : start + count])
    assert torch.equal(stored.whole("weight", "0.weight"), whole.view(16, 6))


@pytest.fixture
def paths(tmp_path):
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights/a.bin").write_text("1")
    (tmp_path / "clips.json").write_text("{}")
    inputs = {
        "initial": tmp_path / "weights",
        "clips": tmp_path / "clips.json",
        "videos": tmp_path / "videos",
    }
    return StagePaths(tmp_path, inputs, {}, tmp_path / "checkpoints")


def test_the_fingerprint_follows_every_parameter_and_every_input(paths):
    first = fingerprint_of(loop_config(), paths)
    assert fingerprint_of(loop_config(), paths) == first
    others = {first, fingerprint_of(loop_config(seed=4), paths), fingerprint_of(loop_config(ema=0.8), paths)}
    (paths.root / "clips.json").write_text("[]")
    others.add(fingerprint_of(loop_config(), paths))
    (paths.root / "weights/a.bin").write_text("2")
    others.add(fingerprint_of(loop_config(), paths))
    starting = loop_config(start_weights="clips.json")
    others.add(fingerprint_of(starting, paths))
    (paths.root / "clips.json").write_text("[1]")
    others.add(fingerprint_of(starting, paths))
    assert len(others) == 7


@pytest.mark.parametrize(
    "change", [{"log_steps": 1}, {"checkpoint_steps": 1}, {"keep_last_n": 9}, {"zero_stage": 2}]
)
def test_what_changes_no_result_may_change_while_a_run_is_paused(paths, change):
    assert fingerprint_of(loop_config(), paths) == fingerprint_of(loop_config(**change), paths)
