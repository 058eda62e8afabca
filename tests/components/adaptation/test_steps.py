"""The way from an image model to a video model: each step starts from the last, and refuses what does not fit."""

import pytest
import torch
from diffusers import PixArtTransformer2DModel
from safetensors.torch import load_file

from components.adaptation import step
from components.adaptation.config import StepConfig
from components.artifacts import read_json, sha256_of
from components.denoiser import pixart, train
from components.denoiser.config import FlowStageConfig, PixArtConfig
from components.denoiser.epsilon import EpsilonProgram
from components.denoiser.facts import TrainingFacts
from components.errors import ContractError
from components.training.config import OptimizerConfig
from models.diffusion.pixart import PixArtDenoiser
from models.text import TextEncoder
from models.transformers.video_transformer import VideoTransformer
from tests.tiny_latents import contract, make_latents, make_text, stage_paths

TIMES = {"distribution": "logit-normal", "shift": True, "base_resolution": 16}
LOOP = {
    "steps": 2,
    "seed": 1,
    "optimizer": OptimizerConfig(lr=1e-3),
    "precision": "fp32",
    "log_steps": 1,
    "checkpoint_steps": 50,
    "caption_dropout": 0.1,
}


def batches(*frames):
    return {
        "buckets": {"16px": dict.fromkeys(frames, (1.0, 3))},
        "seed": 1,
        "small_bucket": "repeat",
    }


def step_config(change, **more):
    is_epsilon = change in {"multi_resolution", "qk_norm"}
    on_video = change in {"autoencoder", "temporal", "masks"}
    return StepConfig(
        **{
            **LOOP,
            "change": change,
            "objective": "epsilon" if is_epsilon else "flow",
            "times": None if is_epsilon else TIMES,
            "batches": batches(1, 5) if on_video else batches(1),
            "masks": {"random": 0.5} if change == "masks" else {},
            **more,
        }
    )


def pixart_config(**more):
    model = {"depth": 2, "heads": 2, "head_width": 16, "patch": 2}
    return PixArtConfig(**{**LOOP, "weights": None, "model": model, "batches": batches(1), **more})


class Workspace:
    """Latents of both autoencoders and a text encoder; `run_step` runs one step on what is there."""

    def __init__(self, root):
        self.root = root
        self.text = make_text(root)
        images, videos = [(1, 16, 16), (1, 16, 24)], [(1, 16, 16), (5, 16, 16), (5, 16, 24)]
        self.images = make_latents(root, "images", images, weights="a")
        self.videos = make_latents(root, "videos", videos, weights="b")

    def run_pixart(self, name="pixart", **more):
        folder = self.root / "artifacts" / name
        report = pixart.run(pixart_config(**more), stage_paths(self.root, name, None, self.images, folder))
        return folder, report

    def run_step(self, change, initial, *, latents=None, name=None, **more):
        folder = self.root / "artifacts/adapt" / (name or change)
        on_video = change in {"autoencoder", "temporal", "masks"}
        latents = latents or (self.videos if on_video else self.images)
        paths = stage_paths(self.root, f"adapt@{change}", initial, latents, folder)
        step.run(step_config(change, **more), paths)
        return folder


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    """A workspace in which all steps have run, and their folders in order."""
    workspace = Workspace(tmp_path_factory.mktemp("chain"))
    folders = {"pixart": workspace.run_pixart()[0]}
    for change in step.CHANGES:
        folders[change] = workspace.run_step(change, list(folders.values())[-1])
    return workspace, folders


def inputs(frames=1, seed=0):
    generator = torch.Generator().manual_seed(seed)
    latents = torch.randn(2, 4, frames, 4, 4, generator=generator)
    text = torch.randn(2, 12, 32, generator=generator)
    mask = torch.arange(12) < torch.tensor([[5], [9]])
    rest = {"fps": torch.full((2,), 8.0), "size": torch.full((2, 2), 16.0)}
    return (latents, torch.tensor([100.0, 700.0]), text, mask), rest


def test_every_step_says_what_became_of_every_tensor(chain):
    _, folders = chain
    for change, folder in folders.items():
        if change == "pixart":
            continue
        coverage = read_json(folder / "coverage.json")
        covered = {*coverage["loaded"], *coverage["new"], *coverage["zero_initialised"]}
        assert covered == set(VideoTransformer.from_pretrained(folder).state_dict())
        assert coverage["unexplained"] == []
    grown = {
        change
        for change, f in folders.items()
        if change != "pixart" and read_json(f / "coverage.json")["new"]
    }
    assert grown == {"qk_norm", "autoencoder", "temporal"}


def test_the_model_grows_as_published(chain):
    configs = {c: VideoTransformer.load_config(f) for c, f in chain[1].items() if c != "pixart"}
    table = {
        change: (c["qk_norm"], c["out_channels"], c["fps_conditioning"], c["temporal"])
        for change, c in configs.items()
    }
    assert table == {
        "multi_resolution": (False, 8, False, False),
        "qk_norm": (True, 8, False, False),
        "rectified_flow": (True, 4, False, False),
        "time_shift": (True, 4, False, False),
        "adam_eps": (True, 4, False, False),
        "autoencoder": (True, 4, True, False),
        "temporal": (True, 4, True, True),
        "masks": (True, 4, True, True),
    }


def test_the_facts_beside_the_weights_name_latents_objective_and_times(chain):
    facts = {change: TrainingFacts.read(folder) for change, folder in chain[1].items()}
    assert [f.objective for f in facts.values()] == ["epsilon"] * 3 + ["flow"] * 6
    assert facts["adam_eps"].autoencoder == contract(weights="a")
    assert facts["masks"].autoencoder == contract(weights="b")
    assert facts["masks"].shapes == [[1, 16, 16], [5, 16, 16], [5, 16, 24]]
    assert facts["qk_norm"].times is None
    assert facts["masks"].times["shift"]


def test_the_first_step_starts_as_the_image_model_it_was_given(chain):
    _, folders = chain
    null = load_file(folders["pixart"] / "null_caption.safetensors")["null_caption"]
    theirs = PixArtDenoiser(PixArtTransformer2DModel.from_pretrained(folders["pixart"]), null).eval()
    workspace = chain[0]
    paths = stage_paths(workspace.root, "x", folders["pixart"], workspace.images, workspace.root / "x")
    loaded = step.open_batches(step_config("multi_resolution").batches, paths)
    ours, _ = step._converted(folders["pixart"], {}, loaded, seed=1)
    arguments, rest = inputs()
    with torch.no_grad():
        torch.testing.assert_close(
            ours.eval()(*arguments, **rest), theirs(*arguments, **rest), rtol=0, atol=2e-5
        )
    assert torch.equal(ours.null_caption, null)


def test_the_null_caption_of_an_image_model_is_the_encoders_empty_prompt(chain):
    workspace, folders = chain
    null = load_file(folders["pixart"] / "null_caption.safetensors")["null_caption"]
    assert torch.equal(null, TextEncoder.from_pretrained(workspace.text).encode([""])[0][0])


@pytest.mark.parametrize(
    ("change", "more", "message"),
    [
        ("masks", {"times": None}, "flow objective needs `times`"),
        ("qk_norm", {"masks": {"random": 0.5}}, "epsilon objective has no `times` and no `masks`"),
        ("qk_norm", {"times": TIMES}, "epsilon objective has no `times` and no `masks`"),
    ],
)
def test_what_an_objective_lacks_or_would_not_read_is_refused_as_parameters(change, more, message):
    """When they are loaded, and not when the steps before this one have been trained."""
    with pytest.raises(ValueError, match=message):
        step_config(change, **more)


def test_an_image_model_reports_what_its_looks_have_found(tmp_path):
    workspace = Workspace(tmp_path)
    workspace.images = make_latents(tmp_path, "images", [(1, 16, 16)], held_out=2)
    _, report = workspace.run_pixart(validation={"steps": 1, "samples": 2, "times": 1})
    assert [look["step"] for look in report.looks] == [1, 2]
    assert all(look["val/loss"] > 0 for look in report.looks)


def test_an_image_model_whose_training_was_cut_ends_as_the_one_that_was_not(chain, monkeypatch):
    workspace, _ = chain
    longer = {"steps": 4, "checkpoint_steps": 2}
    straight, _ = workspace.run_pixart("straight", **longer)
    learn = EpsilonProgram.step

    def cut(self, module, position, generator):
        if position == 3:
            raise RuntimeError("power cut")
        return learn(self, module, position, generator)

    monkeypatch.setattr(EpsilonProgram, "step", cut)
    with pytest.raises(RuntimeError, match="power cut"):
        workspace.run_pixart("cut", **longer)
    monkeypatch.undo()
    resumed, _ = workspace.run_pixart("cut", **longer)
    assert sha256_of(resumed) == sha256_of(straight)


def test_the_same_inputs_give_the_same_bytes(chain):
    workspace, folders = chain
    again = workspace.run_step("masks", folders["temporal"], name="masks-again")
    assert sha256_of(again) == sha256_of(folders["masks"])


def test_only_blocks_across_frames_change_where_only_they_are_trained(chain):
    workspace, folders = chain
    folder = workspace.run_step("temporal", folders["autoencoder"], name="only", trainable="temporal")
    before = VideoTransformer.from_pretrained(folders["autoencoder"]).state_dict()
    after = VideoTransformer.from_pretrained(folder).state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert any(after[name].any() for name in after if name.endswith("temporal.attention.projection.weight"))


def test_captions_go_through_the_same_layers_where_those_are_frozen(chain):
    workspace, folders = chain
    folder = workspace.run_step("temporal", folders["autoencoder"], name="frozen", freeze_caption=True)
    before = VideoTransformer.from_pretrained(folders["autoencoder"]).state_dict()
    after = VideoTransformer.from_pretrained(folder).state_dict()
    same = {name for name, value in before.items() if torch.equal(after[name], value)}
    assert {name for name in before if name.startswith("caption.")} <= same
    assert not any(name.startswith("final.") for name in same)


def test_latents_of_another_autoencoder_are_refused_except_where_it_changes(chain):
    workspace, folders = chain
    with pytest.raises(ContractError, match=r"another autoencoder .*weights_sha256"):
        workspace.run_step("time_shift", folders["rectified_flow"], latents=workspace.videos)
    config = FlowStageConfig(**LOOP, batches=batches(1), times=TIMES)
    paths = stage_paths(
        workspace.root, "train@stage1", folders["masks"], workspace.images, workspace.root / "t"
    )
    with pytest.raises(ContractError, match="another autoencoder"):
        train.run(config, paths)
    assert not (workspace.root / "t").exists()


def test_latents_with_other_channels_are_taken_up_by_the_autoencoder_step(chain):
    workspace, folders = chain
    wide = make_latents(workspace.root, "wide", [(1, 16, 16), (5, 16, 16)], channels=6, weights="c")
    folder = workspace.run_step("autoencoder", folders["adam_eps"], latents=wide, name="wide")
    config = VideoTransformer.load_config(folder)
    assert (config["in_channels"], config["out_channels"]) == (6, 6)


def test_captions_of_another_text_encoder_are_refused(chain, tmp_path):
    _, folders = chain
    other = Workspace(tmp_path)
    make_text(tmp_path, seed=2)
    with pytest.raises(ContractError, match="run the encode stage of these latents again"):
        other.run_step("time_shift", folders["rectified_flow"])
    other.images = make_latents(tmp_path, "images", [(1, 16, 16)], weights="a")
    with pytest.raises(ContractError, match="trained with text encoder"):
        other.run_step("time_shift", folders["rectified_flow"])


def test_only_the_step_to_rectified_flow_may_change_the_objective(chain):
    workspace, folders = chain
    with pytest.raises(ContractError, match="only the step rectified_flow changes it"):
        workspace.run_step("adam_eps", folders["qk_norm"])
    with pytest.raises(ContractError, match="needs flow"):
        config = FlowStageConfig(**LOOP, batches=batches(1), times=TIMES)
        train.run(
            config,
            stage_paths(workspace.root, "s", folders["qk_norm"], workspace.images, workspace.root / "s"),
        )


def test_training_goes_on_from_the_adapted_model(chain):
    workspace, folders = chain
    target = workspace.root / "artifacts/train/stage1"
    paths = stage_paths(workspace.root, "train@stage1", folders["masks"], workspace.videos, target)
    config = FlowStageConfig(**LOOP, batches=batches(1, 5), times=TIMES, masks={"image_head": 0.5})
    report = train.run(config, paths)
    assert report.stage == "train@stage1"
    assert report.counts == {"samples": 18}
    before = VideoTransformer.from_pretrained(folders["masks"]).state_dict()
    after = VideoTransformer.from_pretrained(target).state_dict()
    assert set(after) == set(before)
    assert not torch.equal(after["final.projection.weight"], before["final.projection.weight"])
    assert not paths.checkpoints.exists()


def test_recomputing_activations_changes_nothing(chain):
    workspace, folders = chain
    curves = []
    for recompute in (False, True):
        paths = stage_paths(
            workspace.root,
            f"train@{recompute}",
            folders["masks"],
            workspace.videos,
            workspace.root / f"r{recompute}",
        )
        config = FlowStageConfig(**LOOP, batches=batches(5), times=TIMES, activation_checkpointing=recompute)
        train.run(config, paths)
        curves.append(paths.output("curve").read_text())
    assert curves[0] == curves[1]


def test_given_weights_are_linked_and_not_trained(chain):
    workspace, folders = chain
    folder, report = workspace.run_pixart("imported", weights=str(folders["pixart"]))
    assert report.metrics["steps"] == 0
    name = "diffusion_pytorch_model.safetensors"
    assert sha256_of(folder / name) == sha256_of(folders["pixart"] / name)
    assert (workspace.root / "curves/imported.csv").read_text().splitlines() == ["step,loss,grad_norm,lr"]
    assert TrainingFacts.read(folder).objective == "epsilon"


def test_given_weights_for_other_latents_are_refused(chain):
    workspace, folders = chain
    workspace_images = workspace.images
    workspace.images = make_latents(workspace.root, "wide-images", [(1, 16, 16)], channels=6)
    try:
        with pytest.raises(ContractError, match="in_channels 4, not 6"):
            workspace.run_pixart("refused", weights=str(folders["pixart"]))
    finally:
        workspace.images = workspace_images
    assert not (workspace.root / "artifacts/refused").exists()
