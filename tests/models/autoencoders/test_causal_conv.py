import pytest
import torch

from models.autoencoders.causal_conv import CausalConv3d, ResidualBlock, TimeUpsample


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.mark.parametrize("time_stride", [1, 2])
def test_an_output_frame_sees_its_own_and_earlier_frames_only(time_stride):
    conv = CausalConv3d(2, 3, 3, time_stride=time_stride)
    x = torch.randn(1, 2, 8, 4, 4)
    before = conv(x)
    assert before.shape == (1, 3, 8 // time_stride, 4, 4)
    for frame in range(8):
        changed = x.clone()
        changed[:, :, frame] += 1
        moved = (conv(changed) - before).abs().amax(dim=(0, 1, 3, 4)) > 1e-6
        sees = [
            frame in range(last - 2, last + 1)
            for last in range(time_stride - 1, 8, time_stride)  # the last frame below the kernel
        ]
        assert moved.tolist() == sees


def test_convolution_equals_a_dense_one_on_the_clip_with_two_zero_frames_in_front():
    conv = CausalConv3d(2, 3, 3)
    x = torch.randn(1, 2, 5, 4, 4)
    padded = torch.cat([torch.zeros(1, 2, 2, 4, 4), x], dim=2)
    weight, bias = conv.conv.weight, conv.conv.bias
    expected = torch.nn.functional.conv3d(padded, weight, bias, padding=(0, 1, 1))
    torch.testing.assert_close(conv(x), expected)


def test_upsampling_puts_channel_2c_plus_k_into_frame_2t_plus_k_of_channel_c():
    upsample = TimeUpsample(3)
    x = torch.randn(2, 3, 4, 2, 2)
    doubled, frames = CausalConv3d.forward(upsample, x), upsample(x)
    assert frames.shape == (2, 3, 8, 2, 2)
    for channel in range(3):
        for frame in range(4):
            for k in range(2):
                assert torch.equal(frames[:, channel, 2 * frame + k], doubled[:, 2 * channel + k, frame])


def test_activation_checkpointing_does_not_change_gradients():
    block = ResidualBlock(4, 8, norm_groups=2)
    x = torch.randn(1, 4, 3, 4, 4)
    gradients = []
    for _ in range(2):
        block.zero_grad()
        block(x).square().sum().backward()
        gradients.append([parameter.grad.clone() for parameter in block.parameters()])
        block.enable_gradient_checkpointing()
    torch.testing.assert_close(gradients[0], gradients[1], rtol=0, atol=0)
