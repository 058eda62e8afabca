import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional

from models.autoencoders import perceptual
from models.autoencoders.perceptual import PerceptualDistance

LEVELS = ((2, 3), (4, 4), (4, 5, 5), (6, 6, 6), (6, 6, 7))  # VGG16's layers, narrower
CONVOLUTIONS = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)  # torchvision's numbers


@pytest.fixture
def vgg():
    """State dict as torchvision's vgg16 has it."""
    torch.manual_seed(0)
    widths = [width for level in LEVELS for width in level]
    state = {"classifier.0.weight": torch.randn(2, 2), "classifier.0.bias": torch.randn(2)}
    for index, before, after in zip(CONVOLUTIONS, (3, *widths), widths, strict=False):
        state[f"features.{index}.weight"] = torch.randn(after, before, 3, 3) / (9 * before) ** 0.5
        state[f"features.{index}.bias"] = torch.randn(after) * 0.1
    return state


@pytest.fixture
def heads():
    """State dict as LPIPS publishes it."""
    torch.manual_seed(1)
    return {f"lin{i}.model.1.weight": torch.rand(1, level[-1], 1, 1) for i, level in enumerate(LEVELS)}


@pytest.fixture
def files(vgg, heads, tmp_path):
    torch.save(vgg, tmp_path / "vgg16.pth")
    save_file(heads, tmp_path / "lpips.safetensors")
    return tmp_path / "vgg16.pth", tmp_path / "lpips.safetensors"


def naive_lpips(vgg, heads, one, other):
    """One pair of images (3, H, W)."""
    shift, scale = torch.tensor([-0.030, -0.088, -0.188]), torch.tensor([0.458, 0.448, 0.450])
    a, b = ((image - shift[:, None, None]) / scale[:, None, None] for image in (one, other))
    numbers, total = iter(CONVOLUTIONS), 0.0
    for i, level in enumerate(LEVELS):
        if i:
            a, b = (functional.max_pool2d(x[None], 2)[0] for x in (a, b))
        for _ in level:
            name = f"features.{next(numbers)}"
            weight, bias = vgg[f"{name}.weight"], vgg[f"{name}.bias"]
            a, b = (functional.conv2d(x[None], weight, bias, padding=1).relu()[0] for x in (a, b))
        unit_a, unit_b = (x / (x.square().sum(dim=0, keepdim=True).sqrt() + 1e-10) for x in (a, b))
        weighted = heads[f"lin{i}.model.1.weight"].view(-1, 1, 1) * (unit_a - unit_b) ** 2
        total += weighted.sum(dim=0).mean().item()
    return total


def test_the_distance_is_that_of_lpips_averaged_over_frames(files, vgg, heads):
    model = PerceptualDistance.from_files(*files, perceptual.vgg(LEVELS))
    one, other = torch.rand(2, 2, 3, 3, 32, 48) * 2 - 1
    expected = [
        sum(naive_lpips(vgg, heads, one[b, :, t], other[b, :, t]) for t in range(3)) / 3 for b in range(2)
    ]
    torch.testing.assert_close(model(one, other), torch.tensor(expected))
    assert model(one, one).tolist() == [0.0, 0.0]


def test_gradients_reach_the_pixels_and_are_finite_also_where_nothing_responds(files):
    model = PerceptualDistance.from_files(*files, perceptual.vgg(LEVELS))
    with torch.no_grad():
        model.features[28].bias.fill_(-100.0)  # the last features are all zero
    output = (torch.rand(1, 3, 1, 16, 16) * 2 - 1).requires_grad_()
    model(output, torch.zeros(1, 3, 1, 16, 16)).sum().backward()
    assert output.grad.isfinite().all()
    assert output.grad.any()
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_names_and_sizes_are_those_of_torchvisions_vgg16():
    with torch.device("meta"):
        model = PerceptualDistance()
    shapes = {name: tuple(value.shape) for name, value in model.features.state_dict().items()}
    assert shapes["0.weight"] == (64, 3, 3, 3)
    assert shapes["28.bias"] == (512,)
    assert {int(name.split(".")[0]) for name in shapes} == set(CONVOLUTIONS)
    assert sum(parameter.numel() for parameter in model.features.parameters()) == 14_714_688


def test_alexnet_is_torchvisions_and_its_distance_is_that_of_lpips(tmp_path):
    with torch.device("meta"):
        assert (
            sum(p.numel() for p in PerceptualDistance(perceptual.alex()).features.parameters()) == 2_469_696
        )
    widths, strides, paddings = (3, 4, 5, 4, 3), (4, 1, 1, 1, 1), (2, 2, 1, 1, 1)
    kernels, numbers = (11, 5, 3, 3, 3), (0, 3, 6, 8, 10)
    torch.manual_seed(2)
    state = {}
    for number, before, after, kernel in zip(numbers, (3, *widths), widths, kernels, strict=False):
        state[f"features.{number}.weight"] = (
            torch.randn(after, before, kernel, kernel) / (kernel**2 * before) ** 0.5
        )
        state[f"features.{number}.bias"] = torch.randn(after) * 0.1
    heads = {f"lin{i}.model.1.weight": torch.rand(1, width, 1, 1) for i, width in enumerate(widths)}
    torch.save(state, tmp_path / "alexnet.pth")
    torch.save(heads, tmp_path / "alex.pth")
    files = tmp_path / "alexnet.pth", tmp_path / "alex.pth"
    model = PerceptualDistance.from_files(*files, perceptual.alex(widths))
    one, other = torch.rand(2, 1, 3, 1, 64, 80) * 2 - 1
    shift, scale = torch.tensor([-0.030, -0.088, -0.188]), torch.tensor([0.458, 0.448, 0.450])
    a, b = ((clip[:, :, 0] - shift[:, None, None]) / scale[:, None, None] for clip in (one, other))
    expected = 0.0
    for i, number in enumerate(numbers):
        if i in (1, 2):
            a, b = (functional.max_pool2d(x, 3, stride=2) for x in (a, b))
        weight, bias = state[f"features.{number}.weight"], state[f"features.{number}.bias"]
        a, b = (functional.conv2d(x, weight, bias, strides[i], paddings[i]).relu() for x in (a, b))
        unit_a, unit_b = (x / (x.square().sum(dim=1, keepdim=True).sqrt() + 1e-10) for x in (a, b))
        expected += (heads[f"lin{i}.model.1.weight"] * (unit_a - unit_b) ** 2).sum(dim=1).mean().item()
    assert model(one, other).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("no file", r"nothing\.pth holds no weights"),
        ("vgg", r"vgg16.* 1 tensors are missing.*features\.14\.bias"),
        ("heads", r"LPIPS.* 1 tensors are missing.*lin3\.model\.1\.weight"),
        ("exchanged", r"vgg16.* 5 tensors are unexpected"),
    ],
)
def test_it_says_which_weights_are_missing(files, vgg, heads, damage, message, tmp_path):
    one, other = files
    if damage == "no file":
        one = tmp_path / "nothing.pth"
    elif damage == "vgg":
        del vgg["features.14.bias"]
        torch.save(vgg, one)
    elif damage == "heads":
        del heads["lin3.model.1.weight"]
        save_file(heads, other)
    else:
        one, other = other, one
    with pytest.raises(ValueError, match=message):
        PerceptualDistance.from_files(one, other, perceptual.vgg(LEVELS))


def test_frames_that_are_too_small_are_refused(files):
    model = PerceptualDistance.from_files(*files, perceptual.vgg(LEVELS))
    with pytest.raises(ValueError, match="less than 16 a side"):
        model(torch.zeros(1, 3, 1, 8, 16), torch.zeros(1, 3, 1, 8, 16))
