"""The published networks on small weights in the published formats: names, sizes, preparation, and what is refused."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from components.artifacts import sha256_of
from components.errors import UserError
from components.evaluation.published.conventions import FVD_CONVENTIONS
from components.evaluation.published.i3d import I3D, padded
from components.evaluation.published.networks import Weights, fvd_network, prepared, scripted_network
from components.evaluation.published.videomae import VideoMae, VideoMaeConfig, sine_positions

CPU = torch.device("cpu")


class ScriptedI3D(nn.Module):
    """Takes what `i3d_torchscript.pt` takes, and gives mean colours that show how it was called."""

    def forward(self, x: Tensor, rescale: bool, resize: bool, return_features: bool) -> Tensor:
        assert return_features
        if resize:
            x = x[:, :, :, :2, :2]
        if rescale:
            x = x / 255 * 2 - 1
        return x.mean(dim=[2, 3, 4])


def clips(count=3, frames=16, height=20, width=30):
    rng = np.random.default_rng(1)
    return rng.integers(0, 256, (count, frames, height, width, 3), dtype=np.uint8)


def test_i3d_has_the_size_and_the_names_of_the_port_that_fvd_uses():
    with torch.device("meta"):
        network = I3D()
    shapes = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    assert sum(parameter.numel() for parameter in network.parameters()) == 12_697_264
    assert shapes["Conv3d_1a_7x7.conv3d.weight"] == (64, 3, 7, 7, 7)
    assert shapes["Mixed_4f.b2b.bn.running_var"] == (128,)
    assert shapes["logits.conv3d.weight"] == (400, 1024, 1, 1, 1)


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "expected"), [(16, 7, 2, 8), (15, 3, 2, 8), (7, 3, 1, 7), (9, 2, 2, 5)]
)
def test_padding_is_tensorflows_same(size, kernel, stride, expected):
    """Output size ceil(size / stride); the odd zero comes last."""
    x = torch.ones(1, 1, size, 1, 1)
    with_zeros = padded(x, (kernel, 1, 1), (stride, 1, 1))
    assert functional.max_pool3d(with_zeros, (kernel, 1, 1), (stride, 1, 1)).shape[2] == expected
    before = int((with_zeros.flatten() == 1).nonzero()[0])
    behind = with_zeros.shape[2] - size - before
    assert 0 <= behind - before <= 1


@pytest.fixture(scope="module")
def i3d_file(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("i3d") / "i3d_pretrained_400.pt"
    torch.save(I3D().state_dict(), path)
    return path


def test_i3d_reads_its_checkpoint_and_gives_400_logits(i3d_file):
    network = I3D.from_file(i3d_file)
    saved = torch.load(i3d_file, weights_only=True)
    assert all(torch.equal(value, saved[name]) for name, value in network.state_dict().items() if value.ndim)
    convention = FVD_CONVENTIONS["cd-fvd-i3d"]
    found = fvd_network("cd-fvd-i3d", convention, Weights(i3d_file), CPU).features(
        clips(1), batch=1, title=""
    )
    assert found.shape == (1, 400)
    expected = network(prepared(clips(1), convention))
    np.testing.assert_allclose(found, expected.detach().numpy(), rtol=1e-5)


def test_a_checkpoint_of_something_else_is_refused_by_name(tmp_path):
    torch.save({"weight": torch.zeros(3)}, tmp_path / "other.pt")
    with pytest.raises(UserError, match="should be an I3D of Kinetics-400"):
        fvd_network("tensorflow", FVD_CONVENTIONS["tensorflow"], Weights(tmp_path / "other.pt"), CPU)
    with pytest.raises(UserError, match="missing; the metric needs"):
        fvd_network("tensorflow", FVD_CONVENTIONS["tensorflow"], Weights(tmp_path / "none.pt"), CPU)
    with pytest.raises(UserError, match="not 0123456789ab; fetch it again"):
        Weights(tmp_path / "other.pt", sha256="0123456789abcdef").digest()


def test_videomae_is_vit_g_and_reads_a_training_checkpoint(tmp_path):
    with torch.device("meta"):
        assert round(sum(p.numel() for p in VideoMae(VideoMaeConfig()).parameters()) / 1e6) == 1012
    small = VideoMaeConfig(width=16, depth=2, heads=2, hidden=32, patch=4, tube=2, frames=4, size=8)
    torch.manual_seed(0)
    network = VideoMae(small)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.2)
    state = {**network.state_dict(), "head.weight": torch.zeros(3, 16), "head.bias": torch.zeros(3)}
    torch.save({"module": state}, tmp_path / "mae.pth")
    read = VideoMae.from_file(tmp_path / "mae.pth", small)
    x = torch.rand(2, 3, 4, 8, 8)
    torch.testing.assert_close(read(x), by_hand(state, x, small))


def by_hand(state, x, config):
    """The same transformer written out with explicit sums."""
    w = config.width
    tokens = functional.conv3d(
        x, state["patch_embed.proj.weight"], state["patch_embed.proj.bias"], stride=(2, 4, 4)
    )
    h = tokens.flatten(2).transpose(1, 2) + sine_positions(config.tokens, w)

    def norm(y, name):
        return functional.layer_norm(y, (w,), state[f"{name}.weight"], state[f"{name}.bias"], 1e-6)

    for block in range(config.depth):
        at = f"blocks.{block}"
        y = norm(h, f"{at}.norm1") @ state[f"{at}.attn.qkv.weight"].T
        q, k, v = y.split(w, dim=2)
        q, v = q + state[f"{at}.attn.q_bias"], v + state[f"{at}.attn.v_bias"]
        heads = []
        for a, b, c in zip(*(part.chunk(config.heads, dim=2) for part in (q, k, v)), strict=True):
            heads.append((a @ b.transpose(1, 2) / (w // config.heads) ** 0.5).softmax(dim=2) @ c)
        h = h + torch.cat(heads, dim=2) @ state[f"{at}.attn.proj.weight"].T + state[f"{at}.attn.proj.bias"]
        y = norm(h, f"{at}.norm2") @ state[f"{at}.mlp.fc1.weight"].T + state[f"{at}.mlp.fc1.bias"]
        h = h + functional.gelu(y) @ state[f"{at}.mlp.fc2.weight"].T + state[f"{at}.mlp.fc2.bias"]
    return norm(h.mean(dim=1), "fc_norm")


@pytest.mark.parametrize(
    ("name", "low", "high"), [("tensorflow", -1, 1), ("cd-fvd-videomae", 0, 1), ("common-metrics", -1, 1)]
)
def test_pixels_become_what_the_convention_says(name, low, high):
    black_and_white = np.zeros((1, 2, 20, 30, 3), np.uint8)
    black_and_white[:, 1] = 255
    x = prepared(black_and_white, FVD_CONVENTIONS[name])
    assert x.shape == (1, 3, 2, 224, 224)
    torch.testing.assert_close(x[:, :, 0], torch.full_like(x[:, :, 0], low))
    torch.testing.assert_close(x[:, :, 1], torch.full_like(x[:, :, 1], high))


def test_stretching_keeps_the_whole_width_and_covering_the_middle():
    marked = np.zeros((1, 1, 56, 112, 3), np.uint8)
    marked[:, :, :, :28] = 255  # the left quarter
    stretched = prepared(marked, FVD_CONVENTIONS["cd-fvd-videomae"])[0, 0, 0]
    assert (stretched[:, :50] == 1).all()
    covered = prepared(marked, FVD_CONVENTIONS["common-metrics"])[0, 0, 0]
    assert (covered[:, 10:] == -1).all()  # 224 of 448 columns from the middle: the quarter is outside


def test_a_side_that_does_not_divide_is_rounded_up_as_the_published_code_does():
    """144 x 256 pixels become 224 x 399, of which columns 87 to 310 are kept: ceil(256 * 224 / 144), and 175 // 2."""
    clips = np.random.default_rng(0).integers(0, 256, (1, 1, 144, 256, 3), dtype=np.uint8)
    images = torch.from_numpy(clips[0]).permute(0, 3, 1, 2).float()
    wanted = functional.interpolate(images, (224, 399), mode="bilinear", align_corners=False)[..., 87:311]
    found = prepared(clips, FVD_CONVENTIONS["common-metrics"])[0, :, 0]
    torch.testing.assert_close(found, wanted[0] / 255 * 2 - 1)


def test_the_scripted_i3d_is_called_as_its_convention_says(tmp_path):
    """The same file: once with bytes and everything done inside, once prepared outside."""
    torch.jit.script(ScriptedI3D()).save(str(tmp_path / "i3d.pt"))
    file, made = Weights(tmp_path / "i3d.pt"), clips()
    inside = fvd_network("stylegan-v", FVD_CONVENTIONS["stylegan-v"], file, CPU)
    expected = made[:, :, :2, :2].astype(float).mean(axis=(1, 2, 3)) / 255 * 2 - 1
    np.testing.assert_allclose(inside.features(made, batch=2, title=""), expected, atol=1e-5)
    outside = fvd_network("common-metrics", FVD_CONVENTIONS["common-metrics"], file, CPU)
    rows = outside.features(made, batch=2, title="")
    expected = prepared(made, FVD_CONVENTIONS["common-metrics"]).mean(dim=(2, 3, 4))
    np.testing.assert_allclose(rows, expected, atol=1e-5)
    assert inside.identity["weights_sha256"] == sha256_of(tmp_path / "i3d.pt")
    assert inside.identity != outside.identity


def test_a_network_that_gives_a_map_instead_of_a_row_is_refused(tmp_path):
    class Map(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.mean(dim=2)

    torch.jit.script(Map()).save(str(tmp_path / "map.pt"))
    with pytest.raises(ValueError, match="not one row each"):
        scripted_network(Weights(tmp_path / "map.pt"), CPU).features(clips(1), batch=1, title="")
    (tmp_path / "text.pt").write_text("no program")
    with pytest.raises(UserError, match="no TorchScript file"):
        scripted_network(Weights(tmp_path / "text.pt"), CPU)
