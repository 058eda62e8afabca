"""The published models: their number of parameters, and that a tiny twin of each runs, learns, saves and loads."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from models.autoencoders.presets import AUTOENCODERS
from models.transformers.convert import grow
from models.transformers.presets import PRESETS, preset
from models.transformers.relative_bias import resize_table
from models.transformers.token_positions import interpolate_table
from models.transformers.video_transformer import VideoTransformer

FULL = [name for name in PRESETS if not name.endswith("-tiny")]
TWINS = [f"{name}-tiny" for name in FULL]
EXACT = {"stdit3-xl-2": 1_207_643_972, "stdit3-3b-2": 3_182_211_572}
# millions, and how far off; W.A.L.T's own are rounded to a million, its 3B to a billion: there the formula's result
CLOSE = {
    "walt-l-r2": (313.24, 0.002),
    "walt-l-r4": (313.58, 0.002),
    "walt-l-r16": (315.65, 0.002),
    "walt-l-r64": (323.90, 0.002),
    "walt-l-r256": (356.93, 0.002),
    "walt-l-separate": (457.74, 0.002),
    "walt-xl": (460.02, 0.002),
    "walt-imagenet-l": (459.8, 0.002),
    "walt-t2v-l": (419.0, 0.002),
    "walt-t2v-3b": (3100, 0.002),
    "walt-sr-2x": (1300, 0.003),
    "walt-sr-2x2x": (419.0, 0.01),
    "hdvila-flat": (418, 0.01),
    "hdvila-hourglass": (429, 0.01),
    "causal-5b": (5000, 0.01),
}


def parameters(name: str) -> int:
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in preset(name).parameters())


@pytest.mark.parametrize("name", EXACT)
def test_stdit3_has_the_measured_number_of_parameters(name: str):
    assert parameters(name) == EXACT[name]


@pytest.mark.parametrize("name", CLOSE)
def test_the_others_have_the_published_number_of_parameters(name: str):
    millions, tolerance = CLOSE[name]
    assert parameters(name) == pytest.approx(millions * 1e6, rel=tolerance)


def test_every_published_model_has_a_twin_with_its_parts():
    assert set(PRESETS) == {*FULL, *TWINS}
    for name in FULL:
        full, twin = PRESETS[name], PRESETS[f"{name}-tiny"]
        assert full.config.keys() <= twin.config.keys(), name
        assert full.system == twin.system
        for part in ("modulation", "text", "conditions", "qk_norm", "rope", "relative_bias"):
            same = part == "rope" or full.config.get(part) == twin.config.get(part)
            assert same, (name, part)


@pytest.mark.parametrize("name", PRESETS)
def test_the_latents_of_a_preset_are_those_of_its_autoencoder(name: str):
    entry = PRESETS[name]
    geometry = AUTOENCODERS[entry.autoencoder].geometry()
    assert geometry.latent_shape(*entry.video) == entry.latent


@pytest.mark.parametrize(
    ("name", "tokens"),
    [("stdit3-xl-2", 6075), ("walt-xl", 1280), ("walt-sr-2x2x", 2240), ("hdvila-flat", 16 * 1024)],
)
def test_tokens_at_the_published_resolution(name: str, tokens: int):
    assert PRESETS[name].tokens == tokens


def drawn(name: str) -> VideoTransformer:
    """A model in which nothing is zero."""
    torch.manual_seed(0)
    model = preset(name).eval()
    for parameter in model.parameters():
        if parameter.requires_grad:
            nn.init.normal_(parameter, std=0.15)
    return model


def inputs(name: str) -> dict[str, Tensor]:
    config, (channels, *grid) = PRESETS[name].config, PRESETS[name].latent
    generator = torch.Generator().manual_seed(1)
    data = {
        "latents": torch.randn(2, config.get("in_channels", channels), *grid, generator=generator),
        "timestep": torch.tensor([200.0, 700.0]),
        "fps": torch.tensor([8.0, 24.0]),
        "size": torch.tensor([PRESETS[name].video[1:]] * 2, dtype=torch.float32),
        "label": torch.tensor([3, 7]),
        "t_sr": torch.tensor([40.0, 90.0]),
    }
    if config.get("text") != {"kind": "none"}:
        data["text"] = torch.randn(2, 12, config["caption_channels"], generator=generator)
        data["text_mask"] = torch.arange(12) < torch.tensor([[5], [9]])
    if config.get("low_resolution_channels"):
        frames, rows, columns = grid
        data["low_resolution"] = torch.randn(2, 8, frames, rows // 2, columns // 2, generator=generator)
    return data


@pytest.mark.parametrize("name", TWINS)
def test_a_twin_predicts_and_every_parameter_learns(name: str):
    model, data = drawn(name), inputs(name)
    out = model(**data)
    assert out.shape == (2, model.config.out_channels, *PRESETS[name].latent[1:])
    out.square().mean().backward()
    without = [
        parameter_name
        for parameter_name, parameter in model.named_parameters()
        if parameter.requires_grad and (parameter.grad is None or not parameter.grad.any())
    ]
    assert without == []


@pytest.mark.parametrize("name", TWINS)
@torch.inference_mode()
def test_a_twin_is_the_same_after_saving_and_loading(name: str, tmp_path: Path):
    model, data = drawn(name), inputs(name)
    model.save_pretrained(tmp_path)
    again = VideoTransformer.from_pretrained(tmp_path)
    assert again.state_dict().keys() == model.state_dict().keys()
    assert torch.equal(again(**data), model(**data))


@pytest.mark.parametrize("name", TWINS)
def test_recomputed_activations_give_the_same_gradients(name: str):
    model, data = drawn(name).train(), inputs(name)
    gradients = []
    for checkpointing in (False, True):
        model.zero_grad()
        if checkpointing:
            model.enable_gradient_checkpointing()
        model(**data).sum().backward()
        gradients.append(
            [parameter.grad.clone() for parameter in model.parameters() if parameter.requires_grad]
        )
    for kept, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(recomputed, kept)


@pytest.mark.parametrize("name", TWINS)
@torch.inference_mode()
def test_bfloat16_weights_give_the_float32_output_up_to_their_rounding(name: str):
    torch.manual_seed(0)
    model, data = preset(name).eval(), inputs(name)
    for parameter in model.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.02)
    exact = model(**data)
    assert (model.bfloat16()(**data) - exact).norm() / exact.norm() < 0.04


STACKABLE = [name for name in TWINS if PRESETS[name].video[0] > 1]


@pytest.mark.parametrize("name", STACKABLE)
@torch.inference_mode()
def test_images_of_a_stack_do_not_see_each_other(name: str):
    model, data = drawn(name), inputs(name)
    stacked = {**data, "images": torch.tensor([True, False])}
    changed = {**stacked, "latents": data["latents"].clone()}
    changed["latents"][:, :, 1:] += 1
    before, after = model(**stacked), model(**changed)
    assert torch.equal(before[0, :, 0], after[0, :, 0])
    assert (before[0, :, 1] - after[0, :, 1]).abs().max() > 1e-4
    first_of_a_video = (before[1, :, 0] - after[1, :, 0]).abs().max()
    causal = any(block.attention.window.causal for block in model.blocks())
    assert first_of_a_video == 0 if causal else first_of_a_video > 1e-5


@pytest.mark.parametrize("name", ["walt-t2v-l-tiny", "walt-l-r2-tiny"])
@torch.inference_mode()
def test_an_image_gives_the_same_at_every_place_of_a_stack(name: str):
    model, data = drawn(name), inputs(name)
    stack = {**data, "images": torch.tensor([True, True])}
    swapped = {**stack, "latents": data["latents"].flip(2)}
    torch.testing.assert_close(model(**swapped).flip(2), model(**stack), atol=1e-5, rtol=0)


@torch.inference_mode()
def test_images_of_a_stack_read_their_own_captions():
    model, data = drawn("walt-t2v-l-tiny"), inputs("walt-t2v-l-tiny")
    data["text"] = torch.randn(2, 5, 12, 32)
    data["text_mask"] = torch.rand(2, 5, 12) > 0.3
    data["images"] = torch.tensor([True, True])
    changed = {**data, "text": data["text"].clone()}
    changed["text"][:, 2] += 1
    difference = (model(**changed) - model(**data)).abs().amax(dim=(0, 1, 3, 4))
    assert difference[[0, 1, 3, 4]].max() == 0
    assert difference[2] > 1e-4


@torch.inference_mode()
def test_the_super_resolution_stage_reads_the_stage_before_and_the_time_of_its_noise():
    model, data = drawn("walt-sr-2x-tiny"), inputs("walt-sr-2x-tiny")
    for name in ("low_resolution", "t_sr"):
        assert (model(**{**data, name: data[name] * 0.5}) - model(**data)).abs().max() > 1e-3
    stack = {**data, "images": torch.tensor([True, True])}
    changed = {**stack, "low_resolution": data["low_resolution"].clone()}
    changed["low_resolution"][:, :, 2] += 1
    difference = (model(**changed) - model(**stack)).abs().amax(dim=(0, 1, 3, 4))
    assert difference[[0, 1, 3, 4]].max() == 0


@torch.inference_mode()
def test_the_class_and_no_class_make_a_difference():
    model, data = drawn("walt-imagenet-l-tiny"), inputs("walt-imagenet-l-tiny")
    none = {**data, "label": torch.tensor([1000, 1000])}
    assert (model(**none) - model(**data)).abs().max() > 1e-3
    with pytest.raises(
        ValueError, match="label 1001: this model has the classes 0 to 999, and 1000 for no class"
    ):
        model(**{**data, "label": torch.tensor([3, 1001])})


@torch.inference_mode()
@pytest.mark.parametrize("sides", [(5, 7), (9, 16), (8, 12)], ids=str)
def test_the_hourglass_takes_any_grid(sides: tuple[int, int]):
    model, data = drawn("hdvila-hourglass-tiny"), inputs("hdvila-hourglass-tiny")
    data["latents"] = torch.randn(2, 4, 5, *sides)
    assert model(**data).shape == (2, 4, 5, *sides)


@torch.inference_mode()
def test_shifted_windows_of_every_second_layer_carry_information_past_the_border_of_a_window():
    model, data = drawn("hdvila-flat-tiny"), inputs("hdvila-flat-tiny")
    changed = {**data, "latents": data["latents"].clone()}
    changed["latents"][:, :, 0, 0, 0] += 1
    reached = (model(**changed) - model(**data)).abs().amax(dim=(0, 1)) > 0
    windows = [block.attention.window for block in model.blocks()]
    assert [window.shift for window in windows] == [(0, 0, 0), (0, 0, 0), (0, 1, 1), (2, 1, 1)]
    assert reached[:4, :4, :4].all()  # the window at the corner
    assert reached[4:6].any()  # frames of the next window in time, through the shifted one


def test_walt_goes_to_another_aspect_ratio_by_stretching_its_tables():
    model = drawn("walt-t2v-l-tiny")
    wide = {"spatial": {"size": [1, 4, 8]}, "spatiotemporal": {"size": [5, 2, 4]}}
    grown, report = grow(model, positions={"kind": "learned", "grid": [5, 4, 8]}, pattern=wide)
    places = model.token_positions.places
    assert torch.equal(grown.token_positions.places, interpolate_table(places, (4, 8)))
    assert torch.equal(grown.token_positions.frames, model.token_positions.frames)
    for name, sizes in {"spatial": ((1, 4, 4), (1, 4, 8)), "spatiotemporal": ((5, 2, 2), (5, 2, 4))}.items():
        tables = [m.layers[1][name].attention.bias.table for m in (model, grown)]
        assert torch.equal(tables[1], resize_table(tables[0], *sizes))
    assert not report.new
    data = inputs("walt-t2v-l-tiny")
    data["latents"] = torch.randn(2, 25, 5, 4, 8)
    assert grown(**data).shape == (2, 8, 5, 4, 8)


def test_a_grid_of_the_wrong_size_names_axis_value_and_way_out():
    data = inputs("walt-xl-tiny")
    data["latents"] = torch.randn(2, 25, 5, 4, 6)
    with pytest.raises(ValueError, match=r"6 token columns.*for 4.*grow\(model, positions="):
        preset("walt-xl-tiny")(**data)


@pytest.mark.parametrize(
    ("name", "missing"),
    [
        ("stdit3-xl-2-tiny", "fps"),
        ("stdit3-xl-2-tiny", "size"),
        ("stdit3-xl-2-tiny", "text"),
        ("walt-l-r2-tiny", "label"),
        ("walt-sr-2x-tiny", "t_sr"),
        ("walt-sr-2x-tiny", "low_resolution"),
    ],
)
def test_an_input_that_the_model_needs_is_asked_for_by_name(name: str, missing: str):
    data = inputs(name)
    del data[missing]
    with pytest.raises(ValueError, match=missing):
        preset(name)(**data)


def test_a_checkpoint_of_another_preset_is_refused(tmp_path: Path):
    preset("walt-l-r2-tiny").save_pretrained(tmp_path)
    other = preset("walt-l-r4-tiny")
    other.save_config(tmp_path)
    with pytest.raises(ValueError, match=r"layers\.0\.spatial\.modulation\.down\.weight"):
        VideoTransformer.from_pretrained(tmp_path)


def test_unknown_presets_and_parts_are_errors_that_list_what_there_is():
    with pytest.raises(ValueError, match="stdit3-xl-2"):
        preset("stdit4")
    with pytest.raises(ValueError, match="there is no condition of kind 'speed'; kinds: size"):
        preset("hdvila-flat-tiny", conditions={"speed": {}})
    with pytest.raises(ValueError, match="qk_norm is 'batch'"):
        preset("hdvila-flat-tiny", qk_norm="batch")
