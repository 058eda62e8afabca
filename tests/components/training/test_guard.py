"""A broken step is left out as if its batches had never been there; the state is distrusted where it happens again."""

import json
import subprocess
import sys
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from torch import nn

from components.errors import UserError
from components.training.loop import seed_of
from components.training.program import StepResult
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


class Centred(nn.Module):
    """Subtracts a running mean of what it has seen."""

    def __init__(self) -> None:
        super().__init__()
        self.map = nn.Linear(6, 3)
        self.register_buffer("mean", torch.zeros(3))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        out = self.map(inputs)
        if self.training:
            self.mean.lerp_(out.detach().mean(dim=0), 0.1)
        return out - self.mean


def centred(program: Regression) -> Regression:
    torch.manual_seed(7)
    program.module = Centred()
    return program


class Overflowing(Regression):
    """At these positions the inputs are not finite."""

    def __init__(self, *positions: int) -> None:
        super().__init__()
        self.positions = positions

    def step(self, module, position, generator):
        if position not in self.positions:
            return super().step(module, position, generator)
        out = module(torch.full((8, 6), torch.inf))
        return StepResult(out.square().mean(), clip_ids=[f"clip-{position}"])


@pytest.mark.parametrize("zero_stage", [0, 1, 3])
@pytest.mark.parametrize("accumulation", [1, 2])
def test_a_batch_that_is_left_out_leaves_no_trace_in_running_means(tmp_path, zero_stage, accumulation):
    config = loop_config(zero_stage=zero_stage, accumulation=accumulation)
    broken = centred(Overflowing(6 * accumulation))
    clean = centred(Without(*range(6 * accumulation, 7 * accumulation)))
    result = run_tiny(tmp_path / "broken", config, broken)
    run_tiny(tmp_path / "clean", config, clean)
    assert [one.step for one in result.incidents] == [7]
    assert_equal(broken, clean)


@pytest.mark.parametrize("zero_stage", [0, 1, 3])
@pytest.mark.parametrize("accumulation", [1, 2])
def test_a_spike_is_left_out_as_if_it_had_never_been_there(tmp_path, zero_stage, accumulation):
    changes = {"zero_stage": zero_stage, "accumulation": accumulation, "steps": 24, "log_steps": 8}
    place = 20 * accumulation + accumulation - 1
    broken = poisoned(place, factor=1e6)
    clean = Without(*range(20 * accumulation, 21 * accumulation))
    result = run_tiny(tmp_path / "broken", loop_config(**changes), broken)
    run_tiny(tmp_path / "clean", loop_config(**changes), clean)
    assert_equal(broken, clean)
    assert [(one.step, one.left_out) for one in result.incidents] == [(21, (20,))]
    assert result.incidents[0].clips == (f"clip-{place}",)  # and not those of the step's other batch
    assert "far above" in result.incidents[0].reason
    assert result.incidents[0].loss > 1e3 * result.incidents[0].usual_loss


def test_without_a_limit_a_spike_is_trained_on(tmp_path):
    config = loop_config(steps=24, sentinel={"spike": None})
    assert run_tiny(tmp_path, config, poisoned(20, factor=1e6)).incidents == ()


AGAIN = (6, 7, 8)  # broken one after the other


@pytest.mark.parametrize("zero_stage", [0, 1, 3])
def test_where_breaks_persist_the_state_goes_back_to_well_before_the_first(tmp_path, zero_stage):
    config = loop_config(zero_stage=zero_stage, sentinel={"skip_steps": 2}, checkpoint_steps=2, keep_last_n=4)
    broken, clean = poisoned(*AGAIN), Without(4, 5, *AGAIN)
    result = run_tiny(tmp_path / "broken", config, broken)
    run_tiny(tmp_path / "clean", config, clean)
    assert [(one.back_to, one.left_out) for one in result.incidents] == [
        (6, (6,)),
        (6, (7,)),
        (4, (4, 5, 6, 7, 8)),
    ]
    assert_equal(broken, clean)
    curves = [loop_paths(tmp_path / run).output("curve").read_bytes() for run in ("broken", "clean")]
    assert curves[0] == curves[1]


class LateLayer(nn.Module):
    """One of its layers is used for the first time after some passes, as by the first video after images."""

    def __init__(self, first: int) -> None:
        super().__init__()
        self.early, self.late = nn.Linear(6, 3), nn.Linear(6, 3)
        self.first = first
        self.passes = 0

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        self.passes += 1
        out = self.early(inputs)
        return out + self.late(inputs) if self.passes > self.first else out


def test_moments_that_a_checkpoint_does_not_have_are_gone_after_going_back(tmp_path):
    """Both runs use the late layer for the first time in step 6, whose checkpoint is that of step 5."""
    broken, clean = poisoned(*AGAIN), Without(5, *AGAIN)
    torch.manual_seed(7)
    broken.module = LateLayer(5)
    clean.module = deepcopy(broken.module)
    result = run_tiny(tmp_path / "broken", loop_config(), broken)
    run_tiny(tmp_path / "clean", loop_config(), clean)
    assert (result.incidents[-1].back_to, result.incidents[-1].left_out) == (5, (5, 6, 7, 8))
    assert_equal(broken, clean)


def test_a_run_goes_back_as_far_as_its_checkpoints_reach(tmp_path):
    broken, clean = poisoned(*AGAIN), Without(5, *AGAIN)  # the only checkpoint is of step 5
    result = run_tiny(tmp_path / "broken", loop_config(), broken)
    run_tiny(tmp_path / "clean", loop_config(), clean)
    assert (result.incidents[-1].back_to, result.incidents[-1].left_out) == (5, (5, 6, 7, 8))
    assert_equal(broken, clean)
    early = run_tiny(tmp_path / "early", loop_config(), poisoned(2, 3, 4))
    assert [one.left_out for one in early.incidents] == [(2,), (3,), (4,)]  # there is none yet


def test_breaks_that_persist_again_reach_back_twice_as_far(tmp_path):
    config = loop_config(
        steps=16, checkpoint_steps=1, keep_last_n=30, sentinel={"skip_steps": 1, "persists": 2}
    )
    result = run_tiny(tmp_path, config, poisoned(5, 6, 14, 15))
    assert [one.left_out for one in result.incidents] == [(5,), (4, 5, 6), (14,), (12, 13, 14, 15)]


def test_breaks_far_from_each_other_never_add_up_to_a_stop(tmp_path):
    bad = range(5, 60, 9)
    config = loop_config(steps=60, sentinel={"retries": 2, "retry_steps": 15})
    result = run_tiny(tmp_path / "far", config, poisoned(*bad))
    assert len(result.incidents) == 7
    with pytest.raises(UserError, match="after 2 broken steps among 40"):
        run_tiny(
            tmp_path / "near",
            loop_config(steps=60, sentinel={"retries": 2, "retry_steps": 40}),
            poisoned(*bad),
        )


def test_a_run_that_is_cut_after_a_spike_judges_the_rest_as_the_one_that_was_not(tmp_path):
    spikes = {22: 30.0, 30: 3.0, 36: 30.0, 41: 3.0, 47: 30.0}
    config = loop_config(steps=56, checkpoint_steps=9, log_steps=8, sentinel={"persists": 4})

    def cut_at(last: int) -> Regression:
        def interfere(position: int) -> float | None:
            if position == last:
                raise RuntimeError("power cut")
            return spikes.get(position)

        return Regression(interfere)

    straight = cut_at(-1)
    expected = run_tiny(tmp_path / "straight", config, straight)
    assert len(expected.incidents) >= 2
    for last in (24, 33, 38, 52):
        with pytest.raises(RuntimeError, match="power cut"):
            run_tiny(tmp_path / "cut", config, cut_at(last))
    resumed = cut_at(-1)
    assert run_tiny(tmp_path / "cut", config, resumed).incidents == expected.incidents
    assert_equal(resumed, straight)


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
        UserError,
        match=r"after 2 broken steps among 1000 were left out.*clip-9.*reelforge data quarantine.*sentinel\.retries",
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

    result = run_tiny(tmp_path, loop_config(sentinel={"retries": 1, "persists": 9}), Epochs())
    assert [one.counts for one in result.incidents] == [True, False, False]
    assert {clip for one in result.incidents for clip in one.clips} == {"clip-3"}


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
