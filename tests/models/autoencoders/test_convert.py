import pytest
import torch

from models.autoencoders import build_autoencoder
from models.autoencoders.convert import expected_state, open_sora_to_ours, ours_to_open_sora
from models.autoencoders.presets import AUTOENCODERS, OPEN_SORA

TINY = AUTOENCODERS["opensora-vae-1.2-tiny"].config


@pytest.fixture
def ours():
    torch.manual_seed(0)
    codec = build_autoencoder(TINY)
    codec.image.set_statistics([0.0] * 4, [1 / 0.18215] * 4)
    codec.set_statistics([-0.10, 0.34, 0.27, 0.98], [3.85, 2.32, 2.33, 3.06])
    return codec.state_dict()


def assert_equal(one, other):
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert value.dtype == other[name].dtype
        assert torch.equal(value, other[name])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_there_and_back_is_bit_exact_in_both_directions(ours, dtype):
    statistics = ("image.shift", "image.scale")  # a constant of the published code, not of its checkpoint
    ours = {name: value if name in statistics else value.to(dtype) for name, value in ours.items()}
    theirs = ours_to_open_sora(ours, TINY)
    back, report = open_sora_to_ours(theirs, TINY)
    assert_equal(back, ours)
    assert_equal(ours_to_open_sora(back, TINY), theirs)
    assert report.unexplained == ()
    assert set(report.loaded) == set(ours) - set(statistics)
    assert (report.new, report.zero_initialised) == (("image.scale",), ("image.shift",))


def test_names_and_shapes_are_the_published_ones():
    theirs = ours_to_open_sora(expected_state_with_constants(), OPEN_SORA)
    shapes = {name: tuple(value.shape) for name, value in theirs.items()}
    temporal = {name for name in shapes if name.startswith("temporal_vae.")}
    spatial = {name for name in shapes if name.startswith("spatial_vae.module.")}
    assert shapes.keys() - temporal - spatial == {"shift", "scale"}
    assert shapes["shift"] == shapes["scale"] == (1, 4, 1, 1, 1)
    assert len(temporal) == 267
    assert sum(theirs[name].numel() for name in temporal) == 309_687_144
    assert shapes["temporal_vae.quant_conv.conv.weight"] == (8, 8, 1, 1, 1)
    assert shapes["spatial_vae.module.encoder.conv_in.weight"] == (128, 3, 3, 3)
    assert shapes["spatial_vae.module.decoder.mid_block.attentions.0.to_q.weight"] == (512, 512)


def expected_state_with_constants():
    state = expected_state(OPEN_SORA)
    return state | {"image.shift": torch.zeros(4), "image.scale": torch.full((4,), 1 / 0.18215)}


def test_a_tensor_without_a_place_is_an_error(ours):
    theirs = ours_to_open_sora(ours, TINY)
    for name in ("optimizer.step", "temporal_vae.encoder.extra", "spatial_vae.encoder.conv_in.weight"):
        with pytest.raises(ValueError, match="1 tensors of the source fit nowhere"):
            open_sora_to_ours(theirs | {name: torch.zeros(1)}, TINY)


def test_2d_statistics_without_a_place_are_an_error(ours):
    with pytest.raises(ValueError, match=r"image\.scale is .* has no place for it"):
        ours_to_open_sora(ours | {"image.scale": torch.ones(4)}, TINY)
    with pytest.raises(ValueError, match="272 tensors are missing"):
        ours_to_open_sora(ours, OPEN_SORA)
