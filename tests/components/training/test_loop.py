"""A run that was stopped and started again ends where the uninterrupted one does, and leaves a curve."""

import csv
import faulthandler
import os
import signal

import pytest
import torch

from components.errors import Interruption, UserError
from components.training.curves import COLUMNS, Lines, Row
from components.training.fingerprint import Fingerprint
from components.training.loop import seed_of, train
from components.training.program import Found
from tests.tiny_training import Regression, loop_config, loop_paths, run_tiny


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """Weights and curve of one run from start to end."""
    root = tmp_path_factory.mktemp("straight")
    program = Regression()
    result = run_tiny(root, loop_config(), program)
    return program.module.state_dict(), loop_paths(root).output("curve").read_bytes(), result


@pytest.mark.parametrize(
    ("zero_stage", "number"),
    [(0, signal.SIGINT), (0, signal.SIGTERM), (1, signal.SIGINT), (3, signal.SIGTERM)],
)
def test_a_run_that_was_asked_to_stop_goes_on_to_the_same_weights_bit_for_bit(tmp_path, zero_stage, number):
    config = loop_config(zero_stage=zero_stage)
    straight = Regression()
    run_tiny(tmp_path / "straight", config, straight)
    handlers = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    stopped = Regression(lambda position: os.kill(os.getpid(), number) if position == 6 else None)
    with pytest.raises(Interruption, match=r"step 7/12 .* go on") as caught:
        run_tiny(tmp_path / "stopped", config, stopped)
    assert caught.value.exit_code == 128 + number
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == handlers
    resumed = Regression()
    result = run_tiny(tmp_path / "stopped", config, resumed)
    assert (result.resumed_at, len(resumed.losses)) == (7, 5)
    for name, value in straight.module.state_dict().items():
        assert torch.equal(resumed.module.state_dict()[name], value)
    curves = [loop_paths(tmp_path / run).output("curve").read_bytes() for run in ("straight", "stopped")]
    assert curves[0] == curves[1]


def test_a_run_that_died_between_checkpoints_repeats_the_lost_steps(tmp_path, uninterrupted):
    def die(position: int) -> None:
        if position == 9:
            raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        run_tiny(tmp_path, loop_config(), Regression(die))
    resumed = Regression()
    assert run_tiny(tmp_path, loop_config(), resumed).resumed_at == 5
    weights, curve, _ = uninterrupted
    assert all(torch.equal(resumed.module.state_dict()[name], value) for name, value in weights.items())
    assert loop_paths(tmp_path).output("curve").read_bytes() == curve


def test_a_finished_run_that_is_started_again_only_hands_out_its_weights(tmp_path, uninterrupted):
    run_tiny(tmp_path, loop_config(), Regression())
    again = Regression()
    assert run_tiny(tmp_path, loop_config(), again).resumed_at == 12
    assert again.losses == []
    assert all(torch.equal(again.module.state_dict()[n], value) for n, value in uninterrupted[0].items())


def test_the_curve_holds_the_means_since_the_last_row(tmp_path):
    program = Regression()
    result = run_tiny(tmp_path, loop_config(), program)
    with loop_paths(tmp_path).output("curve").open() as stream:
        rows = list(csv.DictReader(stream))
    assert tuple(rows[0]) == COLUMNS
    assert [row["step"] for row in rows] == ["4", "8", "12"]
    means = [sum(program.losses[start : start + 4]) / 4 for start in (0, 4, 8)]
    assert [float(row["loss"]) for row in rows] == pytest.approx(means, rel=1e-5)
    assert (result.first.loss, result.last.loss) == pytest.approx((means[0], means[-1]))


def test_the_rows_are_on_disk_before_the_run_has_finished(tmp_path):
    seen = []

    def look(position: int) -> None:
        if position == 9:
            seen.extend((tmp_path / "checkpoints/tiny/curve.jsonl").read_text().splitlines())

    run_tiny(tmp_path, loop_config(), Regression(look))
    assert len(seen) == 2


@pytest.fixture
def clock(monkeypatch):
    """What was asked of the thread that ends a process: True to do so in a while, False not to."""
    asked = []
    monkeypatch.setattr("components.training.watchdog.ARMED_SECONDS", 0.0)
    monkeypatch.setattr(faulthandler, "dump_traceback_later", lambda *_, **__: asked.append(True))
    monkeypatch.setattr(faulthandler, "cancel_dump_traceback_later", lambda: asked.append(False))
    return asked


def test_a_run_is_not_ended_as_hung_while_batches_and_looks_go_on(tmp_path, clock):
    """However many there are in a step, or in a look."""
    at_batches, at_passes = [], []

    class Look:
        every, scores = 1, True

        def look(self, module, _step):
            for _ in range(3):
                module(torch.zeros(1, 6))
                at_passes.append(len(clock))
            return Found()

    program = Regression(lambda _: at_batches.append(len(clock)))
    config, paths = loop_config(steps=2, accumulation=3), loop_paths(tmp_path)
    train(program, config, paths, fingerprint=Fingerprint("f"), title="tiny", checks=[Look()])
    for counts in (at_batches, at_passes):
        assert len(counts) == 6
        assert counts == sorted(set(counts))  # set anew between any two
    assert clock[-1] is False


def test_a_run_that_is_refused_does_not_leave_its_process_to_be_ended_later(tmp_path, clock):
    program = Regression()
    program.module.requires_grad_(False)
    with pytest.raises(UserError, match="no parameter of this stage is trainable"):
        run_tiny(tmp_path, loop_config(), program)
    assert clock[-1] is False


def test_rows_are_dropped_without_a_moment_in_which_the_others_are_not_on_disk(tmp_path):
    path, before = tmp_path / "curve.jsonl", tmp_path / "what a reader has open"
    lines = Lines(path, Row, resume_at=0)
    for step in (4, 8, 12):
        lines.append(Row(step, loss=1.0, grad_norm=1.0, lr=1.0))
    os.link(path, before)
    Lines(path, Row, resume_at=8)  # as a run that goes on does
    assert len(path.read_text().splitlines()) == 2
    assert len(before.read_text().splitlines()) == 3  # written anew beside it, never emptied


def test_the_module_ends_with_the_average_of_the_weights(tmp_path):
    program = Regression()
    seen = []
    program.at_position = lambda _: seen.append(program.module[0].weight.detach().clone())
    run_tiny(tmp_path, loop_config(ema=0.5), program)
    last = Regression()
    run_tiny(tmp_path / "last", loop_config(ema=0.0), last)
    expected = seen[0].clone()
    for updates, weights in enumerate([*seen[1:], last.module[0].weight.detach()]):
        decay = min(0.5, (1 + updates) / (10 + updates))
        expected = decay * expected + (1 - decay) * weights
    torch.testing.assert_close(program.module[0].weight.detach(), expected)


def test_no_two_positions_share_their_random_numbers():
    seeds = {seed_of(seed, position) for seed in range(20) for position in range(200)}
    assert len(seeds) == 4000
    assert all(0 <= seed < 2**63 for seed in seeds)
