"""The video transformer as Open-Sora's STDiT3: what each input may change, and what it must not."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from models.transformers.presets import preset
from models.transformers.video_transformer import VideoTransformer
from models.transformers.windows import ALL, Window

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
COUNTS = {"stdit3-xl-2": 1_207_643_972, "stdit3-3b-2": 3_182_211_572}


def small(seed: int = 0, **changes: Any) -> VideoTransformer:
    """A small model in which nothing is zero, so that every path has an effect."""
    torch.manual_seed(seed)
    model = VideoTransformer(**{**SMALL, **changes}).eval()
    for parameter in model.parameters():
        if parameter.requires_grad and not parameter.any():
            nn.init.normal_(parameter, std=0.1)
    return model


def batch(frames: int = 3, height: int = 6, width: int = 8, channels: int = 4) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    mask = torch.zeros(2, 12, dtype=torch.bool)
    mask[0, :5], mask[1, :9] = True, True
    return {
        "latents": torch.randn(2, channels, frames, height, width, generator=generator),
        "timestep": torch.tensor([200.0, 700.0]),
        "text": torch.randn(2, 12, 32, generator=generator),
        "text_mask": mask,
        "fps": torch.tensor([8.0, 24.0]),
        "size": torch.tensor([[24.0, 32.0], [24.0, 32.0]]),
    }


@pytest.mark.parametrize("name", COUNTS)
def test_published_sizes_have_the_published_number_of_parameters(name: str):
    with torch.device("meta"):
        model = preset(name)
    assert sum(parameter.numel() for parameter in model.parameters()) == COUNTS[name]


def test_the_small_configuration_measured_on_the_original_has_its_number_of_parameters():
    assert sum(parameter.numel() for parameter in small().parameters()) == 342_888


def test_the_output_is_float32_on_the_grid_of_the_latents_even_where_patches_do_not_divide_it():
    out = small()(**batch(frames=5, height=7, width=9))
    assert out.shape == (2, 8, 5, 7, 9)
    assert out.dtype == torch.float32


def test_saving_and_loading_keeps_the_output_and_the_configuration(tmp_path: Path):
    model = small(qk_norm=False)
    model.save_pretrained(tmp_path)
    again = VideoTransformer.from_pretrained(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        "config.json",
        "diffusion_pytorch_model.safetensors",
    }
    assert torch.equal(again(**batch()), model(**batch()))
    assert not again.config.qk_norm


def test_frames_of_an_image_model_do_not_see_each_other():
    model, data = small(temporal=False), batch()
    changed = {**data, "latents": data["latents"].clone()}
    changed["latents"][:, :, 1] += 1
    difference = (model(**changed) - model(**data)).abs().amax(dim=(0, 1, 3, 4))
    assert difference[1] > 1e-3
    assert difference[[0, 2]].max() == 0


def test_a_fresh_video_model_treats_frames_as_images_because_temporal_blocks_start_as_identity():
    torch.manual_seed(0)
    model, data = VideoTransformer(**SMALL).eval(), batch()
    clip = model(**data)
    for frame in range(3):
        image = model(**{**data, "latents": data["latents"][:, :, frame : frame + 1]})
        torch.testing.assert_close(clip[:, :, frame : frame + 1], image, atol=1e-5, rtol=1e-5)


def test_frames_see_each_other_and_their_order_once_temporal_blocks_have_weights():
    model, data = small(), batch()
    clip = model(**data)
    backwards = model(**{**data, "latents": data["latents"].flip(2)}).flip(2)
    assert (clip - backwards).abs().max() > 1e-3


@pytest.mark.parametrize("window", [ALL, Window(size=(None, 1, 1))], ids=["all", "tube"])
def test_a_causal_pattern_keeps_the_future_from_the_past(window: Window):
    pattern = {"joint": {"size": window.size, "causal": True}}
    model, data = small(pattern=pattern), batch(frames=4)
    changed = {**data, "latents": data["latents"].clone()}
    changed["latents"][:, :, 2] += 1
    difference = (model(**changed) - model(**data)).abs().amax(dim=(0, 1, 3, 4))
    assert difference[:2].max() == 0
    assert difference[2:].min() > 1e-4


def test_padding_of_the_text_is_never_read():
    model, data = small(), batch()
    noise = torch.where(data["text_mask"][..., None], data["text"], 1e3)
    torch.testing.assert_close(model(**{**data, "text": noise}), model(**data))
    trimmed = {**data, "text": data["text"][:, :9], "text_mask": data["text_mask"][:, :9]}
    torch.testing.assert_close(model(**trimmed), model(**data))


def test_a_sample_does_not_depend_on_its_neighbours_in_the_batch():
    model, data = small(), batch()
    alone = model(**{name: value[:1] for name, value in data.items()})
    torch.testing.assert_close(model(**data)[:1], alone, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["timestep", "fps", "size", "text"])
def test_every_condition_changes_the_output(name: str):
    model, data = small(), batch()
    assert (model(**{**data, name: data[name] * 0.5}) - model(**data)).abs().max() > 1e-4


def test_fps_is_ignored_without_fps_conditioning():
    model, data = small(fps_conditioning=False), batch()
    assert torch.equal(model(**{**data, "fps": data["fps"] * 3}), model(**data))


def test_a_frame_mask_of_ones_is_no_frame_mask():
    model, data = small(), batch()
    masked = model(**data, frame_mask=torch.ones(2, 3, dtype=torch.bool))
    torch.testing.assert_close(masked, model(**data), atol=1e-5, rtol=1e-5)


def test_frames_inside_the_mask_are_shown_the_given_time_and_not_that_of_their_neighbours():
    model, data = small(temporal=False), batch()  # frames apart: each must equal a run at its own time
    mask = torch.tensor([[False, True, True], [True, False, True]])
    inside = mask[:, None, :, None, None].expand(2, 8, 3, 6, 8)
    torch.testing.assert_close(
        model(**data, frame_mask=mask)[inside], model(**data)[inside], atol=1e-5, rtol=1e-5
    )


def test_the_null_text_is_the_null_caption_at_the_length_of_the_prompt():
    model, data = small(), batch()
    assert torch.equal(model.null_text(data["text"][:, :9])[1], model.null_caption[:9])
    assert torch.equal(model.null_text(data["text"])[0], model.null_caption)


def test_text_longer_than_the_null_caption_is_refused():
    with pytest.raises(ValueError, match="max_text_tokens"):
        small().null_text(torch.zeros(1, 13, 32))


def gradients(model: VideoTransformer) -> list[Tensor]:
    model.zero_grad()
    model(**batch()).square().mean().backward()
    return [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]


def test_activation_checkpointing_keeps_the_gradients():
    model = small().train()
    before = gradients(model)
    model.enable_gradient_checkpointing()
    for kept, expected in zip(gradients(model), before, strict=True):
        torch.testing.assert_close(kept, expected)


def test_every_trainable_parameter_gets_a_gradient():
    model = small().train()
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    assert len(gradients(model)) == len(trainable)
    assert all(parameter.grad.any() for parameter in trainable)


def autocast(model: VideoTransformer, data: dict[str, Tensor]) -> Tensor:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return model(**data)


def converted(model: VideoTransformer, data: dict[str, Tensor]) -> Tensor:
    return model.bfloat16()(**data)


@pytest.mark.parametrize("run", [autocast, converted])
@pytest.mark.parametrize("learning", [False, True], ids=["inference", "training"])
def test_bfloat16_gives_the_float32_output_up_to_its_rounding(run: Callable[..., Tensor], learning: bool):
    model, data = small(), batch()
    with torch.set_grad_enabled(learning):
        exact = model(**data)
        error = (run(model, data) - exact).norm() / exact.norm()
    assert error < 0.03
