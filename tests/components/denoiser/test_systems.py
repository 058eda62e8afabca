"""Stages of W.A.L.T, the shifted-window and the causal model: each learns, and starts from what came before."""

from pathlib import Path

import pytest

from components.artifacts import StagePaths, read_json, sha256_of
from components.denoiser import causal, shifted_windows, walt
from components.denoiser.facts import TrainingFacts
from components.errors import ContractError, UserError
from models.transformers.video_transformer import VideoTransformer
from tests.tiny_latents import contract
from tests.tiny_systems import losses, make_system_latents, small_stage, stage_paths

CHANNELS = 8
KINDS = [
    ("16px", (1, 16, 16), (CHANNELS, 1, 4, 4)),
    ("16px", (9, 16, 16), (CHANNELS, 5, 4, 4)),
    ("20px", (1, 16, 24), (CHANNELS, 1, 4, 6)),
    ("20px", (9, 16, 24), (CHANNELS, 5, 4, 6)),
    ("32px", (9, 32, 32), (CHANNELS, 5, 8, 8)),
    ("39px", (1, 32, 48), (CHANNELS, 1, 8, 12)),
    ("39px", (9, 32, 48), (CHANNELS, 5, 8, 12)),
]
WIDE = {"positions": {"kind": "learned", "grid": [5, 4, 6]}} | {
    "pattern": {"spatial": {"size": [1, 4, 6]}, "spatiotemporal": {"size": [5, 2, 3]}}
}
STEPS, LEARNING_RATE = 40, 4e-3
STAGES = {
    "hdvila@stage1": shifted_windows,
    "hdvila@stage2": shifted_windows,
    "walt@base": walt,
    "walt@wide": walt,
    "walt@super_resolution_1": walt,
    "causal@stage1": causal,
    "causal@stage2": causal,
}


class Workspace:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.latents = make_system_latents(root, KINDS, contract(CHANNELS))

    def run(self, stage: str, buckets, initial: StagePaths | None = None, **changes) -> StagePaths:
        """Train a stage of the small recipe, shortened, on these buckets."""
        system, name = stage.split("@")
        start = initial.output("transformer") if initial else None
        paths = stage_paths(self.root, stage, self.latents, start)
        batches = {"buckets": buckets, "seed": 1, "small_bucket": "repeat"}
        optimizer = {"lr": LEARNING_RATE, "warmup_steps": 5}
        config = small_stage(
            system, name, batches=batches, **{"steps": STEPS, "optimizer": optimizer, **changes}
        )
        STAGES[stage].run(config, paths)
        return paths


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    return Workspace(tmp_path_factory.mktemp("systems"))


@pytest.fixture(scope="module")
def hdvila(workspace):
    model = {"preset": "hdvila-hourglass-tiny"}
    return workspace.run("hdvila@stage1", {"16px": {9: (1.0, 8)}}, model=model)


@pytest.fixture(scope="module")
def walt_base(workspace):
    model = {"preset": "walt-t2v-l-tiny"}
    return workspace.run("walt@base", {"16px": {1: (1.0, 10), 9: (1.0, 4)}}, model=model, steps=80)


@pytest.fixture(scope="module")
def causal_model(workspace):
    model = {"preset": "causal-5b-tiny", "changes": {"frame_blocks": {"size": 2, "first": 1}}}
    return workspace.run("causal@stage1", {"16px": {1: (1.0, 8), 9: (1.0, 8)}}, model=model)


def fell(paths: StagePaths) -> float:
    """The mean loss of the first ten steps over that of the last ten."""
    rows = losses(paths)
    return rows[0] / rows[-1]


def test_the_shifted_window_model_learns(hdvila):
    assert fell(hdvila) > 2.0


def test_walt_learns_from_clips_and_stacks_of_images(walt_base):
    assert fell(walt_base) > 1.25
    assert TrainingFacts.read(walt_base.output("transformer")).objective == "v_prediction"


def test_the_causal_model_learns_from_blocks(causal_model):
    assert fell(causal_model) > 2.0


def test_the_second_resolution_starts_from_the_first_without_loss(workspace, hdvila):
    paths = workspace.run("hdvila@stage2", {"32px": {9: (1.0, 4)}}, initial=hdvila, steps=10)
    assert losses(paths)[0] < losses(hdvila)[0] / 1.5
    assert_taken_over(paths)


def test_another_aspect_ratio_starts_from_interpolated_tables(workspace, walt_base):
    buckets = {"20px": {9: (1.0, 4)}}
    paths = workspace.run("walt@wide", buckets, initial=walt_base, steps=10, changes=WIDE)
    assert losses(paths)[0] < losses(walt_base)[0]
    assert_taken_over(paths)
    notes = " ".join(read_json(paths.output("transformer") / "coverage.json")["notes"])
    assert "token_positions.places" in notes
    assert "attention.bias.table" in notes


def test_several_sizes_at_once_start_from_the_small_one(workspace, causal_model):
    buckets = {"32px": {9: (0.5, 4)}, "16px": {1: (1.0, 8), 9: (1.0, 8)}}
    paths = workspace.run("causal@stage2", buckets, initial=causal_model, steps=10)
    assert losses(paths)[0] < losses(causal_model)[0] / 1.5
    assert_taken_over(paths)


def test_super_resolution_learns_what_its_low_resolution_input_says(workspace):
    model = {"preset": "walt-sr-2x-tiny", "changes": WIDE}
    buckets = {"39px": {1: (0.3, 10), 9: (1.0, 4)}}
    paths = workspace.run("walt@super_resolution_1", buckets, model=model)
    assert fell(paths) > 1.3
    upsampling = TrainingFacts.read(paths.output("transformer")).upsampling
    assert upsampling == {"low_resolution": "20px", "max_noise_time": 300}


def assert_taken_over(paths: StagePaths) -> None:
    """Every tensor was loaded and nothing was left out."""
    folder = paths.output("transformer")
    coverage = read_json(folder / "coverage.json")
    assert set(coverage["loaded"]) == set(VideoTransformer.from_pretrained(folder).state_dict())
    assert not coverage["dropped"]


def test_a_new_model_says_that_every_tensor_is_new(walt_base):
    folder = walt_base.output("transformer")
    coverage = read_json(folder / "coverage.json")
    tensors = set(VideoTransformer.from_pretrained(folder).state_dict())
    assert {*coverage["new"], *coverage["zero_initialised"]} == tensors
    assert coverage["loaded"] == []


def test_the_same_inputs_give_the_same_bytes(workspace):
    """With dropout, self-conditioning and stacks: all draws follow from the position."""
    digests = []
    for _ in range(2):
        model = {"preset": "walt-t2v-l-tiny"}
        buckets = {"16px": {1: (1.0, 10), 9: (1.0, 2)}}
        paths = workspace.run("walt@base", buckets, model=model, steps=3, attention_dropout=0.1)
        digests.append(sha256_of(paths.output("transformer")))
    assert digests[0] == digests[1]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model": None}, "give `model` with a preset"),
        ({"model": {"preset": "walt-t2v-xs"}}, "presets: stdit3-xl-2"),
        ({"model": {"preset": "walt-t2v-l-tiny", "changes": {"dpeth": 3}}}, "cannot set dpeth"),
        ({"model": {"preset": "walt-t2v-l-tiny", "changes": {"in_channels": 3}}}, "cannot set in_channels"),
        ({"model": {"preset": "walt-t2v-l-tiny", "changes": WIDE | {"heads": 3}}}, "walt@base:"),
    ],
    ids=["nothing to build", "preset", "key", "derived key", "size"],
)
def test_a_model_that_cannot_be_built_is_refused(workspace, changes, said):
    with pytest.raises(UserError, match=said):
        workspace.run("walt@base", {"16px": {9: (1.0, 2)}}, **changes)


def test_a_batch_of_images_that_makes_no_whole_stacks_is_refused(workspace):
    with pytest.raises(UserError, match=r"16px must be a multiple: use 10"):
        model = {"preset": "walt-t2v-l-tiny"}
        workspace.run("walt@base", {"16px": {1: (1.0, 12), 9: (1.0, 4)}}, model=model)


def test_a_low_resolution_that_is_not_half_the_size_is_refused(workspace):
    model = {"preset": "walt-sr-2x-tiny", "changes": WIDE}
    upsampling = {"low_resolution": "16px", "max_noise_time": 300}
    with pytest.raises(ContractError, match=r"39px 9x32x48 has no latents of half its size at 16px"):
        workspace.run("walt@super_resolution_1", {"39px": {9: (1.0, 4)}}, model=model, upsampling=upsampling)


def test_weights_of_another_objective_are_refused(workspace, causal_model):
    with pytest.raises(ContractError, match="trained with teacher_forcing and this stage with flow"):
        workspace.run("hdvila@stage2", {"32px": {9: (1.0, 4)}}, initial=causal_model)
