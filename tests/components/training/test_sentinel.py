"""A broken step is left out as if its batches had never been there, and only so often."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from components.errors import UserError
from components.training.config import SentinelConfig
from components.training.loop import seed_of
from components.training.sentinel import Detour, Measured, Sentinel, deviation, samples_to_blame
from tests.tiny_training import Regression, loop_config, loop_paths, run_tiny

ROOT = Path(__file__).parents[3]
NAN = float("nan")


class Without(Regression):
    """The same data with these positions cut out of it."""

    def __init__(self, *gone: int, seed: int = 3) -> None:
        super().__init__()
        self.gone, self.seed = gone, seed

    def step(self, module, position, generator):
        rest = [place for place in range(position + len(self.gone) + 1) if place not in self.gone]
        generator = torch.Generator().manual_seed(seed_of(self.seed, rest[position]))
        return super().step(module, position, generator)


def weights_of(program: Regression) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in program.module.state_dict().items()}


def assert_equal(one: Regression, other: Regression) -> None:
    for name, value in weights_of(other).items():
        assert torch.equal(one.module.state_dict()[name], value), name


def poisoned(*positions: int, factor: float = NAN) -> Regression:
    return Regression(lambda position: factor if position in positions else None)


@pytest.mark.parametrize("zero_stage", [0, 1, 2, 3])
def test_a_batch_that_is_not_finite_is_left_out_as_if_it_had_never_been_there(tmp_path, zero_stage):
    config = loop_config(zero_stage=zero_stage)
    broken, clean = poisoned(6), Without(6)
    result = run_tiny(tmp_path / "broken", config, broken)
    run_tiny(tmp_path / "clean", config, clean)
    assert_equal(broken, clean)
    assert [(one.step, one.clips, one.left_out) for one in result.incidents] == [(7, ("clip-6",), (6,))]
    curves = [loop_paths(tmp_path / run).output("curve").read_bytes() for run in ("broken", "clean")]
    assert curves[0] == curves[1]


@pytest.mark.parametrize("zero_stage", [0, 1, 3])
@pytest.mark.parametrize("accumulation", [1, 2])
def test_a_spike_is_left_out_as_if_it_had_never_been_there(tmp_path, zero_stage, accumulation):
    sentinel = {"window": 8, "spike": 12.0}
    changes = {"zero_stage": zero_stage, "accumulation": accumulation, "sentinel": sentinel, "steps": 14}
    place = 10 * accumulation + accumulation - 1
    broken = poisoned(place, factor=1e6)
    clean = Without(*range(10 * accumulation, 11 * accumulation))
    result = run_tiny(tmp_path / "broken", loop_config(**changes), broken)
    run_tiny(tmp_path / "clean", loop_config(**changes), clean)
    assert_equal(broken, clean)
    assert [(one.step, one.left_out) for one in result.incidents] == [(11, (10,))]
    assert "far above" in result.incidents[0].reason
    assert result.incidents[0].loss > 1e3 * result.incidents[0].usual_loss


def test_without_a_limit_a_spike_is_trained_on(tmp_path):
    config = loop_config(sentinel={"window": 8, "spike": None})
    assert run_tiny(tmp_path, config, poisoned(10, factor=1e6)).incidents == ()


@pytest.mark.parametrize("zero_stage", [0, 1, 3])
def test_distrusted_steps_are_undone_from_a_checkpoint(tmp_path, zero_stage):
    config = loop_config(zero_stage=zero_stage, sentinel={"skip_steps": 3})
    broken, clean = poisoned(6), Without(4, 5, 6)
    result = run_tiny(tmp_path / "broken", config, broken)
    run_tiny(tmp_path / "clean", config, clean)
    assert result.incidents[0].back_to == 6  # no checkpoint is as old as step 4: only the broken step goes
    config = loop_config(zero_stage=zero_stage, sentinel={"skip_steps": 3}, checkpoint_steps=2, keep_last_n=3)
    broken = poisoned(6)
    result = run_tiny(tmp_path / "back", config, broken)
    assert (result.incidents[0].back_to, result.incidents[0].left_out) == (4, (4, 5, 6))
    assert_equal(broken, clean)
    curves = [loop_paths(tmp_path / run).output("curve").read_bytes() for run in ("back", "clean")]
    assert curves[0] == curves[1]


def test_breaks_that_come_close_together_reach_back_twice_as_far_each_time(tmp_path):
    config = loop_config(steps=16, checkpoint_steps=1, keep_last_n=20)
    result = run_tiny(tmp_path, config, poisoned(5, 8, 12))
    assert [one.left_out for one in result.incidents] == [(5,), (7, 8), (9, 10, 11, 12)]


def test_a_run_that_dies_after_a_break_goes_on_as_if_it_had_not(tmp_path):
    def interfere(position: int) -> float | None:
        if position == 9:
            raise RuntimeError("power cut")
        return NAN if position == 6 else None

    with pytest.raises(RuntimeError, match="power cut"):
        run_tiny(tmp_path / "cut", loop_config(), Regression(interfere))
    resumed, clean = poisoned(6), Without(6)
    result = run_tiny(tmp_path / "cut", loop_config(), resumed)
    run_tiny(tmp_path / "clean", loop_config(), clean)
    assert result.resumed_at == 5
    assert len(result.incidents) == 1  # known from the file: the batch was not tried again
    assert_equal(resumed, clean)


def test_what_was_left_out_before_a_checkpoint_stays_out_after_it(tmp_path):
    def interfere(position: int) -> float | None:
        if position == 9:
            raise RuntimeError("power cut")
        return NAN if position == 2 else None

    with pytest.raises(RuntimeError, match="power cut"):
        run_tiny(tmp_path / "cut", loop_config(), Regression(interfere))
    (tmp_path / "cut/checkpoints/tiny/incidents.jsonl").unlink()  # the checkpoint knows it too
    resumed, clean = poisoned(2), Without(2)
    run_tiny(tmp_path / "cut", loop_config(), resumed)
    run_tiny(tmp_path / "clean", loop_config(), clean)
    assert_equal(resumed, clean)


def test_a_run_that_breaks_too_often_stops_with_what_to_do_and_can_be_allowed_more(tmp_path):
    bad = (5, 7, 9)
    with pytest.raises(
        UserError, match=r"going back 2 times.*clip-9.*reelforge data quarantine.*sentinel\.retries"
    ):
        run_tiny(tmp_path, loop_config(sentinel={"retries": 2}), poisoned(*bad))
    lines = (tmp_path / "checkpoints/tiny/incidents.jsonl").read_text().splitlines()
    assert [json.loads(line)["clips"] for line in lines] == [["clip-5"], ["clip-7"], ["clip-9"]]
    with pytest.raises(UserError, match="clip-9"):  # a retry that nobody allowed is not taken
        run_tiny(tmp_path, loop_config(sentinel={"retries": 2}), poisoned(*bad))
    assert len((tmp_path / "checkpoints/tiny/incidents.jsonl").read_text().splitlines()) == 3
    result = run_tiny(tmp_path, loop_config(sentinel={"retries": 3}), poisoned(*bad))
    assert result.steps == 12


def test_a_sample_that_was_named_before_uses_up_no_retry(tmp_path):
    class Epochs(Regression):
        def step(self, module, position, generator):
            result = super().step(module, position, generator)
            clip = f"clip-{position % 4}"
            loss = result.loss * NAN if clip == "clip-3" else result.loss
            return type(result)(loss, result.metrics, [clip])

    result = run_tiny(tmp_path, loop_config(sentinel={"retries": 1}), Epochs())
    assert [one.counts for one in result.incidents] == [True, False, False]
    assert {clip for one in result.incidents for clip in one.clips} == {"clip-3"}


def test_deviation_is_the_robust_z_score_of_logarithms():
    values = np.exp(np.random.default_rng(0).normal(1.0, 0.7, 200))
    logs = np.log(values)
    spread = (
        np.median(np.abs(logs - np.median(logs))) / 0.6744897501960817
    )  # the quartile of the normal distribution
    expected = (np.log(500.0) - np.median(logs)) / spread
    assert deviation(500.0, values.tolist()) == pytest.approx(expected, rel=1e-4)


def test_ordinary_noise_is_no_spike_and_a_jump_is_one_whatever_the_sign():
    rng = np.random.default_rng(1)
    for series in (np.exp(rng.normal(0, 0.5, 3000)), rng.normal(-1.0, 0.3, 3000)):
        sentinel = Sentinel(SentinelConfig(spike=12.0))
        for value in series.tolist():
            step = Measured([value], 1.0 + 0.1 * abs(value))
            assert sentinel.judge(step) is None
            sentinel.accept(step)
        assert sentinel.judge(Measured([1e6], 1.0)) is not None


def test_the_process_with_the_broken_batch_is_blamed_alone():
    sentinel = Sentinel(SentinelConfig(spike=12.0))
    assert sentinel.judge(Measured([0.1, NAN, 0.2], NAN)).ranks == (1,)
    assert sentinel.judge(Measured([0.1, 0.2, 0.2], float("inf"))).ranks == (0, 1, 2)


def test_samples_that_stand_out_are_named_alone():
    assert samples_to_blame(["a", "b", "c"], [0.1, NAN, 0.2]) == ["b"]
    assert samples_to_blame(["a", "b", "c"], [0.1, 0.2, 90.0]) == ["c"]
    assert samples_to_blame(["b", "a", "b"], [0.1, 0.2, 0.3]) == ["a", "b"]
    assert samples_to_blame(["b", "a"], None) == ["a", "b"]


def test_a_detour_takes_every_set_once_but_those_left_out():
    gone = {0, 3, 4, 9}
    detour = Detour(gone)
    places = [detour.place(step) for step in range(20)]
    assert places == [place for place in range(24) if place not in gone]
    assert [detour.step_at(place) for place in places] == list(range(20))


def test_two_processes_leave_out_what_breaks_on_one_of_them(tmp_path):
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command = [*launcher, "-m", "tests.tiny_poisoned", str(tmp_path / "two"), "9"]
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-4000:]
    found = json.loads((tmp_path / "two/incidents.json").read_text())
    assert [(one["step"], one["clips"], one["left_out"]) for one in found] == [(5, ["clip-9"], [4])]
    clean = Without(8, 9)
    run_tiny(tmp_path / "one", loop_config(accumulation=2), clean)
    together = torch.load(tmp_path / "two/weights.pt")
    for name, value in clean.module.state_dict().items():
        torch.testing.assert_close(together[name], value, rtol=0, atol=1e-5)
