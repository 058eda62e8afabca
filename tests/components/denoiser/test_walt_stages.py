"""Stages of W.A.L.T: base model, another aspect ratio, super-resolution; and what is refused before the first step."""

import pytest

from components.artifacts import read_json, sha256_of
from components.denoiser.facts import TrainingFacts
from components.errors import ContractError, UserError
from models.transformers.video_transformer import VideoTransformer
from tests.tiny_systems import Workspace, assert_taken_over, fell, losses

WIDE = {"positions": {"kind": "learned", "grid": [5, 4, 6]}} | {
    "pattern": {"spatial": {"size": [1, 4, 6]}, "spatiotemporal": {"size": [5, 2, 3]}}
}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    return Workspace(tmp_path_factory.mktemp("systems"))


@pytest.fixture(scope="module")
def walt_base(workspace):
    model = {"preset": "walt-t2v-l-tiny"}
    return workspace.run("walt@base", {"16px": {1: (1.0, 10), 9: (1.0, 4)}}, model=model, steps=80)


def test_walt_learns_from_clips_and_stacks_of_images(walt_base):
    assert fell(walt_base) > 1.25
    assert TrainingFacts.read(walt_base.output("transformer")).objective == "v_prediction"


def test_another_aspect_ratio_starts_from_interpolated_tables(workspace, walt_base):
    buckets = {"20px": {9: (1.0, 4)}}
    paths = workspace.run("walt@wide", buckets, initial=walt_base, steps=30, changes=WIDE)
    assert losses(paths)[0] < losses(walt_base)[0]
    assert losses(walt_base)[0] / losses(paths)[-1] > 1.3
    assert_taken_over(paths)
    notes = " ".join(read_json(paths.output("transformer") / "coverage.json")["notes"])
    assert "token_positions.places" in notes
    assert "attention.bias.table" in notes


SUPER_RESOLUTION = {  # stage -> resolution, the one it starts from, patch, factor by which the loss falls
    "super_resolution_1": ("39px", "20px", "walt-sr-2x-tiny", 1.3),
    "super_resolution_2": ("78px", "39px", "walt-sr-2x2x-tiny", 1.3),
}


@pytest.mark.parametrize("stage", SUPER_RESOLUTION)
def test_super_resolution_learns_what_its_low_resolution_input_says(workspace, stage):
    size, low, preset, factor = SUPER_RESOLUTION[stage]
    buckets = {size: {1: (0.3, 10), 9: (1.0, 4)}}
    source = {"low_resolution": low, "max_noise_time": 300}
    model = {"preset": preset, "changes": WIDE}
    paths = workspace.run(f"walt@{stage}", buckets, model=model, upsampling=source)
    assert fell(paths) > factor
    assert TrainingFacts.read(paths.output("transformer")).upsampling == source


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
