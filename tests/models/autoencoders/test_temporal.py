import pytest
import torch
from torch import nn

from models.autoencoders.config import TemporalAutoencoderConfig
from models.autoencoders.presets import OPEN_SORA
from models.autoencoders.temporal import TemporalAutoencoder

SMALL = TemporalAutoencoderConfig(
    filters=8,
    multipliers=(1, 2, 2),
    blocks=1,
    temporal_downsample=(True, True),
    norm_groups=4,
    chunk_frames=9,
    latent_channels=2,
)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return TemporalAutoencoder(SMALL).eval()


def without_norms(module: nn.Module) -> nn.Module:
    for name, child in module.named_children():
        if isinstance(child, nn.GroupNorm):
            setattr(module, name, nn.Identity())
        without_norms(child)
    return module


def test_published_geometry_has_the_published_parameters():
    with torch.device("meta"):
        model = TemporalAutoencoder(OPEN_SORA.temporal)
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    assert sum(parameter.numel() for parameter in model.parameters()) == 309_687_144
    assert len(shapes) == 267
    assert shapes["encoder.conv_in.conv.weight"] == (128, 4, 3, 3, 3)
    assert "encoder.conv_in.conv.bias" not in shapes
    assert shapes["encoder.block_res_blocks.1.0.conv3.conv.weight"] == (256, 128, 1, 1, 1)
    assert shapes["encoder.conv_blocks.1.conv.weight"] == (256, 256, 3, 3, 3)
    assert "encoder.conv_blocks.0.conv.weight" not in shapes
    assert shapes["encoder.conv2.conv.weight"] == (8, 512, 1, 1, 1)
    assert shapes["decoder.conv_blocks.2.conv.weight"] == (1024, 512, 3, 3, 3)
    assert shapes["decoder.conv_blocks.1.conv.weight"] == (512, 256, 3, 3, 3)
    assert shapes["decoder.conv_out.conv.weight"] == (4, 128, 3, 3, 3)


@pytest.mark.parametrize("frames", [1, 2, 4, 8, 9, 10, 13, 18, 20])
def test_a_clip_of_any_length_comes_back_at_its_length(model, frames):
    result = model(torch.randn(1, 2, frames, 4, 4))
    chunks = [9] * (frames // 9) + [frames % 9]
    assert result.posterior.mean.shape == (1, 2, sum(-(-chunk // 4) for chunk in chunks), 4, 4)
    assert result.output.shape == (1, 2, frames, 4, 4)


def test_chunks_are_encoded_independently(model):
    clip = torch.randn(1, 2, 20, 4, 4)
    whole = model.posterior(clip).mean
    parts = [model.posterior(part).mean for part in (clip[:, :, :9], clip[:, :, 9:18], clip[:, :, 18:])]
    torch.testing.assert_close(whole, torch.cat(parts, dim=2))


def test_a_short_clip_is_padded_with_zero_latents_in_front(model):
    clip = torch.randn(1, 2, 5, 4, 4)
    padded = torch.cat([torch.zeros(1, 2, 3, 4, 4), clip], dim=2)
    torch.testing.assert_close(model.posterior(clip).mean, model.posterior(padded).mean)
    latents = torch.randn(1, 2, 2, 4, 4)
    torch.testing.assert_close(model.decode(latents, 5), model.decode(latents, 8)[:, :, 3:])


def test_future_frames_never_reach_past_latents_through_the_convolutions(model):
    without_norms(model)
    clip = torch.randn(1, 2, 9, 4, 4)  # 3 zero latents in front, then 9: three latents
    before = model.posterior(clip).mean
    for frame in range(9):
        changed = clip.clone()
        changed[:, :, frame] += 1
        moved = (model.posterior(changed).mean - before).abs().amax(dim=(0, 1, 3, 4)) > 1e-6
        assert not moved[: (frame + 3) // 4].any()
        assert moved[(frame + 3) // 4]


def test_levels_and_steps_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="one per step between two levels"):
        TemporalAutoencoderConfig(
            filters=8,
            multipliers=(1, 2),
            blocks=1,
            temporal_downsample=(True, True),
            norm_groups=4,
            chunk_frames=9,
        )
    with pytest.raises(ValueError, match="norm groups"):
        TemporalAutoencoderConfig(
            filters=6,
            multipliers=(1, 2),
            blocks=1,
            temporal_downsample=(True,),
            norm_groups=4,
            chunk_frames=9,
        )
