"""TransNet V2 against a direct computation with random weights of the published names and shapes."""

import numpy as np
import pytest
import torch
from effect_files import make
from footage_workspace import ROOT

from components.data import scenes_transnet
from components.data.config import Detector
from components.data.footage_effects import Kind
from components.data.scenes import detect_scenes
from components.errors import UserError
from components.params import Params

CONFIG = Params.load(ROOT / "params.yaml").split


def published_shapes():
    """Names and shapes of the published file, from the paper's sizes: F = 16, L = 3, S = 2, D = 1024."""
    shapes = {}
    for level in range(3):
        filters = 16 * 2**level
        for block in range(2):
            inputs = 4 * filters if block else (3 if level == 0 else 2 * filters)
            name = f"SDDCNN.{level}.DDCNN.{block}"
            for dilation in (1, 2, 4, 8):
                shapes[f"{name}.Conv3D_{dilation}.layers.0.weight"] = (2 * filters, inputs, 1, 3, 3)
                shapes[f"{name}.Conv3D_{dilation}.layers.1.weight"] = (filters, 2 * filters, 3, 1, 1)
            for each in ("weight", "bias", "running_mean", "running_var"):
                shapes[f"{name}.bn.{each}"] = (4 * filters,)
            shapes[f"{name}.bn.num_batches_tracked"] = ()
    shapes |= {"frame_sim_layer.projection.weight": (128, 448), "frame_sim_layer.projection.bias": (128,)}
    for name in ("frame_sim_layer", "color_hist_layer"):
        shapes |= {f"{name}.fc.weight": (128, 101), f"{name}.fc.bias": (128,)}
    shapes |= {"fc1.weight": (1024, 4864), "fc1.bias": (1024,)}
    for name in ("cls_layer1", "cls_layer2"):
        shapes |= {f"{name}.weight": (1, 1024), f"{name}.bias": (1,)}
    return shapes


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(3)
    state = {name: 0.05 * torch.randn(shape) for name, shape in published_shapes().items()}
    for name, value in list(state.items()):
        if name.endswith("running_var"):
            state[name] = 1 + value.abs()
        if name.endswith("num_batches_tracked"):
            state[name] = torch.tensor(0)
    path = tmp_path_factory.mktemp("transnet") / "weights.pth"
    torch.save(state, path)
    return path


def direct(state, frames):
    """Logits of frames (T, 27, 48, 3), written from the paper one operation at a time."""
    f = torch.nn.functional
    x = torch.from_numpy(frames).permute(3, 0, 1, 2)[None].float() / 255
    means = []
    for level in range(3):
        shortcut = None
        for block in range(2):
            name, parts = f"SDDCNN.{level}.DDCNN.{block}", []
            for dilation in (1, 2, 4, 8):
                conv = f"{name}.Conv3D_{dilation}.layers"
                space = f.conv3d(x, state[f"{conv}.0.weight"], padding=(0, 1, 1))
                parts.append(
                    f.conv3d(
                        space,
                        state[f"{conv}.1.weight"],
                        padding=(dilation, 0, 0),
                        dilation=(dilation, 1, 1),
                    )
                )
            x = torch.cat(parts, 1)
            shape = (1, -1, 1, 1, 1)
            mean, variance = state[f"{name}.bn.running_mean"], state[f"{name}.bn.running_var"]
            x = (x - mean.view(shape)) / torch.sqrt(variance.view(shape) + 1e-3)
            x = x * state[f"{name}.bn.weight"].view(shape) + state[f"{name}.bn.bias"].view(shape)
            x = x.clamp(min=0)
            shortcut = x if shortcut is None else shortcut
        x = f.avg_pool3d(x + shortcut, (1, 2, 2))
        means.append(x.mean((3, 4))[0].T)
    features = torch.cat(means, 1) @ state["frame_sim_layer.projection.weight"].T
    features = features + state["frame_sim_layer.projection.bias"]
    counts = torch.zeros(len(frames), 512)
    for index, frame in enumerate(frames):
        for red, green, blue in frame.reshape(-1, 3) // 32:
            counts[index, int(red) * 64 + int(green) * 8 + int(blue)] += 1
    told = [nearby(counts, state, "color_hist_layer"), nearby(features, state, "frame_sim_layer")]
    flat = x[0].permute(1, 2, 3, 0).reshape(len(frames), -1)
    hidden = torch.cat([*told, flat], 1) @ state["fc1.weight"].T + state["fc1.bias"]
    return (hidden.clamp(min=0) @ state["cls_layer1.weight"].T + state["cls_layer1.bias"])[:, 0]


def nearby(vectors, state, name):
    vectors = vectors / vectors.norm(dim=1, keepdim=True)
    around = torch.zeros(len(vectors), 101)
    for one in range(len(vectors)):
        for offset in range(-50, 51):
            if 0 <= one + offset < len(vectors):
                around[one, offset + 50] = vectors[one] @ vectors[one + offset]
    return (around @ state[f"{name}.fc.weight"].T + state[f"{name}.fc.bias"]).clamp(min=0)


def test_the_network_is_the_published_one(weights):
    frames = np.random.default_rng(4).integers(0, 256, (12, 27, 48, 3), dtype=np.uint8)
    with torch.no_grad():
        found = scenes_transnet.load(weights)(torch.from_numpy(frames)[None])[0]
        expected = direct(torch.load(weights, weights_only=True), frames)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-3)


def test_every_frame_gets_one_probability(weights):
    model = scenes_transnet.load(weights)
    for frames in (1, 49, 51):
        chances = scenes_transnet.probabilities(model, np.zeros((frames, 27, 48, 3), dtype=np.uint8))
        assert chances.shape == (frames,)


@pytest.mark.parametrize(
    ("crossed", "expected"),
    [
        ([0, 0, 1, 0, 0], [(0, 3), (3, 5)]),  # a cut: the frame before it is marked
        ([0, 0, 1, 1, 1, 0], [(0, 3), (5, 6)]),  # a dissolve: its frames are in no shot
        ([0, 0, 0], [(0, 3)]),
        ([1, 1, 0, 0], [(2, 4)]),
        ([1, 1], [(0, 2)]),
    ],
)
def test_shots_are_what_lies_between_marks(crossed, expected):
    assert scenes_transnet.shots_of([0.9 if one else 0.1 for one in crossed]) == expected


def test_it_is_chosen_by_the_parameters(tmp_path, weights):
    (made,) = make(tmp_path, Kind.PLAIN, files=1, seed=501, scenes=2)
    config = CONFIG.model_copy(update={"detector": Detector.TRANSNETV2, "weights": str(weights)})
    scenes = detect_scenes(made.path, config)
    frames = sum(scene.frames for scene in made.plan.scenes)
    assert 0 < sum(len(scene.times) for scene in scenes) <= frames


def test_other_weights_are_refused(tmp_path):
    torch.save({"fc1.weight": torch.zeros(2)}, tmp_path / "other.pth")
    with pytest.raises(UserError, match="does not hold weights of TransNetV2"):
        scenes_transnet.load(tmp_path / "other.pth")
