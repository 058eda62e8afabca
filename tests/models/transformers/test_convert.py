"""Weights of PixArt and Open-Sora 1.2 in our model, and of our model in a larger one: same output, nothing lost."""

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import PixArtTransformer2DModel
from torch import Tensor

from models.transformers.convert import (
    grow,
    image_config,
    open_sora_to_ours,
    ours_to_open_sora,
    pixart_to_ours,
    read_pixart,
)
from models.transformers.layouts import State
from models.transformers.video_transformer import VideoTransformer

SMALL: dict[str, Any] = {
    "in_channels": 4,
    "out_channels": 8,
    "depth": 2,
    "heads": 4,
    "head_width": 16,
    "caption_channels": 32,
    "max_text_tokens": 12,
    "base_pixels": 32,
}
IMAGE: dict[str, Any] = {**SMALL, "qk_norm": False, "fps_conditioning": False, "temporal": False}
VIDEO_PARTS = {"qk_norm": False, "fps_conditioning": True, "temporal": True}


def pixart(sample_size: int = 8, interpolation_scale: int = 1) -> PixArtTransformer2DModel:
    torch.manual_seed(0)
    return PixArtTransformer2DModel(
        num_attention_heads=4,
        attention_head_dim=16,
        in_channels=4,
        out_channels=8,
        num_layers=2,
        cross_attention_dim=64,
        sample_size=sample_size,
        patch_size=2,
        caption_channels=32,
        interpolation_scale=interpolation_scale,
        use_additional_conditions=False,
    ).eval()


def inputs(size: int, frames: int = 1) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    mask = torch.zeros(2, 12, dtype=torch.bool)
    mask[0, :5], mask[1, :9] = True, True
    return {
        "latents": torch.randn(2, 4, frames, size, size, generator=generator),
        "timestep": torch.tensor([20.0, 700.0]),
        "text": torch.randn(2, 12, 32, generator=generator),
        "text_mask": mask,
        "fps": torch.tensor([8.0, 24.0]),
        "size": torch.full((2, 2), 4.0 * size),  # an autoencoder of 4 pixels per latent
    }


def reference(model: PixArtTransformer2DModel, data: dict[str, Tensor]) -> Tensor:
    arguments = {"timestep": data["timestep"], "encoder_attention_mask": data["text_mask"].long()}
    out: Tensor = model(data["latents"][:, :, 0], encoder_hidden_states=data["text"], **arguments).sample
    return out[:, :, None]


def load(config: dict[str, Any], state: State) -> VideoTransformer:
    model = VideoTransformer(**config).eval()
    model.load_state_dict(state)
    return model


@pytest.mark.parametrize(("sample_size", "scale", "size"), [(8, 1, 8), (8, 1, 16), (16, 2, 16), (16, 2, 8)])
def test_converted_pixart_gives_the_output_of_pixart(sample_size: int, scale: int, size: int):
    source = pixart(sample_size, scale)
    config = image_config(source.config, spatial_stride=4, max_text_tokens=12)
    state, report = pixart_to_ours(source.state_dict(), source.config, config)
    out = load(config, state)(**inputs(size))
    torch.testing.assert_close(out, reference(source, inputs(size)), atol=1e-5, rtol=0)
    assert report.new == ("null_caption",)
    assert len(report.loaded) == len(state) - 1
    assert not report.zero_initialised
    assert not report.unexplained


def test_pixart_with_new_video_parts_still_gives_the_output_of_pixart():
    source = pixart()
    config = {**IMAGE, **VIDEO_PARTS}
    state, report = pixart_to_ours(source.state_dict(), source.config, config)
    out = load(config, state)(**inputs(8))
    torch.testing.assert_close(out, reference(source, inputs(8)), atol=1e-5, rtol=0)
    assert "layers.1.temporal.attention.projection.weight" in report.zero_initialised
    assert "layers.1.temporal.attention.qkv.weight" in report.new


def original_layout(model: PixArtTransformer2DModel) -> State:
    """The names of PixArt's own repository, written out independently of the converter."""
    theirs = model.state_dict()
    state = {
        "pos_embed": torch.zeros(1, 16, 64),
        "x_embedder.proj.weight": theirs["pos_embed.proj.weight"],
        "x_embedder.proj.bias": theirs["pos_embed.proj.bias"],
        "y_embedder.y_embedding": torch.randn(7, 32),
        "final_layer.scale_shift_table": theirs["scale_shift_table"],
    }
    for end in ("weight", "bias"):
        state[f"t_embedder.mlp.0.{end}"] = theirs[f"adaln_single.emb.timestep_embedder.linear_1.{end}"]
        state[f"t_embedder.mlp.2.{end}"] = theirs[f"adaln_single.emb.timestep_embedder.linear_2.{end}"]
        state[f"t_block.1.{end}"] = theirs[f"adaln_single.linear.{end}"]
        state[f"y_embedder.y_proj.fc1.{end}"] = theirs[f"caption_projection.linear_1.{end}"]
        state[f"y_embedder.y_proj.fc2.{end}"] = theirs[f"caption_projection.linear_2.{end}"]
        state[f"final_layer.linear.{end}"] = theirs[f"proj_out.{end}"]
    for index in range(2):
        ours, block = f"blocks.{index}", f"transformer_blocks.{index}"
        state[f"{ours}.scale_shift_table"] = theirs[f"{block}.scale_shift_table"]
        for end in ("weight", "bias"):
            state[f"{ours}.attn.qkv.{end}"] = torch.cat(
                [theirs[f"{block}.attn1.to_{x}.{end}"] for x in "qkv"]
            )
            state[f"{ours}.attn.proj.{end}"] = theirs[f"{block}.attn1.to_out.0.{end}"]
            state[f"{ours}.cross_attn.q_linear.{end}"] = theirs[f"{block}.attn2.to_q.{end}"]
            key_value = [theirs[f"{block}.attn2.to_{x}.{end}"] for x in "kv"]
            state[f"{ours}.cross_attn.kv_linear.{end}"] = torch.cat(key_value)
            state[f"{ours}.cross_attn.proj.{end}"] = theirs[f"{block}.attn2.to_out.0.{end}"]
            state[f"{ours}.mlp.fc1.{end}"] = theirs[f"{block}.ff.net.0.proj.{end}"]
            state[f"{ours}.mlp.fc2.{end}"] = theirs[f"{block}.ff.net.2.{end}"]
    return state


def test_both_layouts_of_pixart_give_the_same_model():
    source = pixart()
    theirs = original_layout(source)
    ours, report = pixart_to_ours(theirs, source.config, IMAGE)
    expected, _ = pixart_to_ours(source.state_dict(), source.config, IMAGE)
    differing = [name for name, value in ours.items() if not torch.equal(value, expected[name])]
    assert differing == ["null_caption"]
    assert set(report.dropped) == {"pos_embed"}
    assert not report.new


@pytest.mark.parametrize("rows", [4, 12])
def test_the_null_caption_is_cut_or_continued_with_its_last_row(rows: int):
    source = pixart()
    theirs = original_layout(source)
    state, report = pixart_to_ours(theirs, source.config, {**IMAGE, "max_text_tokens": rows})
    caption = theirs["y_embedder.y_embedding"]
    assert torch.equal(state["null_caption"], torch.cat((caption, caption[-1:].expand(5, -1)))[:rows])
    assert any("null_caption" in note for note in report.notes)


def test_a_tensor_that_fits_nowhere_is_an_error_by_name():
    source = pixart()
    state = {**source.state_dict(), "transformer_blocks.0.attn3.to_q.weight": torch.zeros(2)}
    with pytest.raises(ValueError, match=r"transformer_blocks\.0\.attn3\.to_q\.weight"):
        pixart_to_ours(state, source.config, IMAGE)


def test_a_missing_key_projection_is_an_error_by_name():
    source = pixart()
    state = source.state_dict()
    del state["transformer_blocks.1.attn1.to_k.bias"]
    with pytest.raises(ValueError, match=r"comes without transformer_blocks\.1\.attn1\.to_k\.bias"):
        pixart_to_ours(state, source.config, IMAGE)


def test_another_width_of_captions_is_an_error_that_names_both():
    source = pixart()
    with pytest.raises(ValueError, match="caption_channels is 32 in PixArt and 48 in the target"):
        pixart_to_ours(source.state_dict(), source.config, {**IMAGE, "caption_channels": 48})


def test_size_conditions_of_pixart_alpha_are_dropped_with_a_reason():
    source = pixart()
    state = {**source.state_dict(), "adaln_single.emb.resolution_embedder.linear_1.weight": torch.zeros(2)}
    _, report = pixart_to_ours(state, source.config, IMAGE)
    assert "PixArt-alpha" in report.dropped["adaln_single.emb.resolution_embedder.linear_1.weight"]
    assert "PixArt-alpha" in report.text()


def test_a_pixart_folder_and_an_original_checkpoint_are_both_read(tmp_path: Path):
    source = pixart()
    source.save_pretrained(tmp_path / "folder")
    torch.save({"state_dict": original_layout(source)}, tmp_path / "original.pth")
    folder, original = read_pixart(tmp_path / "folder"), read_pixart(tmp_path / "original.pth")
    assert folder.config["num_attention_heads"] == 4
    inferred = {"num_layers": 2, "in_channels": 4, "out_channels": 8, "patch_size": 2, "sample_size": 8}
    assert inferred.items() <= original.config.items()
    assert torch.equal(folder.state["proj_out.weight"], original.state["final_layer.linear.weight"])
    with pytest.raises(ValueError, match="neither a folder"):
        read_pixart(tmp_path / "nothing")


def trained(**changes: Any) -> VideoTransformer:
    torch.manual_seed(0)
    model = VideoTransformer(**{**SMALL, **changes}).eval()
    for parameter in model.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.1)
    return model


@pytest.mark.parametrize("part", ["fps_conditioning", "temporal"])
def test_growing_a_part_that_starts_as_nothing_keeps_the_output(part: str):
    model = trained(qk_norm=False, fps_conditioning=False, temporal=False)
    grown, report = grow(model, **{part: True})
    data = inputs(8, frames=3)
    torch.testing.assert_close(grown(**data), model(**data), atol=1e-5, rtol=0)
    assert report.zero_initialised
    assert any("does not change" in note for note in report.notes)
    assert not any("changes the output" in note for note in report.notes)


def test_growing_query_key_norm_changes_the_output_and_the_report_says_so():
    model = trained(qk_norm=False)
    grown, report = grow(model, qk_norm=True)
    data = inputs(8, frames=3)
    assert (grown(**data) - model(**data)).abs().max() > 1e-4
    assert any("changes the output" in note for note in report.notes)
    assert set(report.new) == {name for name in grown.state_dict() if ".attention.norm." in name}


def test_shrinking_the_output_keeps_the_predicted_channels_and_drops_the_variances():
    model, data = trained(), inputs(8, frames=3)
    grown, report = grow(model, out_channels=4)
    torch.testing.assert_close(grown(**data), model(**data)[:, :4])
    assert any("final.projection.weight" in note for note in report.notes)


def test_more_latent_channels_leave_what_was_predicted_as_it_was():
    model, data = trained(), inputs(8, frames=3)
    grown, _ = grow(model, in_channels=6, out_channels=12)
    more = {**data, "latents": torch.cat((data["latents"], torch.randn(2, 2, 3, 8, 8)), dim=1)}
    old, new = model(**data), grown(**more)
    torch.testing.assert_close(new[:, :4], old[:, :4])
    torch.testing.assert_close(new[:, 6:10], old[:, 4:])
    assert new[:, [4, 5, 10, 11]].abs().max() == 0


def test_growth_keeps_precision_and_the_global_random_state():
    model = trained(qk_norm=False).bfloat16()
    state = torch.random.get_rng_state()
    grown, _ = grow(model, qk_norm=True)
    assert grown.dtype == torch.bfloat16
    assert torch.equal(torch.random.get_rng_state(), state)


def test_growth_in_depth_is_refused():
    with pytest.raises(ValueError, match="cannot change depth"):
        grow(trained(), depth=3)


def test_switching_a_part_off_is_reported_as_dropped():
    _, report = grow(trained(), temporal=False)
    assert "layers.0.temporal.attention.qkv.weight" in report.dropped
    assert "rotary.frequencies" in report.dropped


def test_open_sora_weights_make_a_bit_exact_round_trip():
    model = trained()
    theirs = ours_to_open_sora(model.state_dict(), SMALL)
    assert len(theirs) == 89  # measured on the original at this size
    assert theirs["x_embedder.proj.weight"].shape == (64, 4, 1, 2, 2)
    assert theirs["spatial_blocks.1.attn.q_norm.weight"].shape == (16,)
    ours, report = open_sora_to_ours(theirs, SMALL)
    assert all(torch.equal(value, ours[name]) for name, value in model.state_dict().items())
    again = ours_to_open_sora(load(SMALL, ours).state_dict(), SMALL)
    assert theirs.keys() == again.keys()
    assert all(torch.equal(value, again[name]) for name, value in theirs.items())
    assert not (report.new or report.zero_initialised or report.dropped)


def test_other_rotary_frequencies_than_the_published_are_refused():
    theirs = ours_to_open_sora(trained().state_dict(), SMALL)
    theirs["rope.freqs"] = theirs["rope.freqs"] * 2
    with pytest.raises(ValueError, match=r"rope\.freqs"):
        open_sora_to_ours(theirs, SMALL)


def test_the_report_counts_every_tensor_once_and_reads_as_a_table():
    source = pixart()
    state, report = pixart_to_ours(source.state_dict(), source.config, SMALL)
    assert sorted(report.loaded + report.new + report.zero_initialised) == sorted(state)
    assert report.as_dict()["new"] == report.new
    lines = report.text().splitlines()
    assert f"loaded       {len(report.loaded):>5} tensors" in lines
    assert any("layers.*.temporal.attention.qkv.weight x 2" in line for line in lines)
