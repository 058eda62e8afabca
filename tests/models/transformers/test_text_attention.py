"""Reading captions: keys and values shared with a window, against a loop over tokens."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from models.transformers.modulation import Modulation
from models.transformers.text_attention import CaptionProjection, SharedText, Text, TextAttention
from models.transformers.windows import UNSEEN, Window

HEADS, HEAD = 2, 8
WIDTH = HEADS * HEAD


def drawn(module: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(3)
    for parameter in module.parameters():
        parameter.data = 0.3 * torch.randn(parameter.shape, generator=generator)
    return module


def tokens(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, WIDTH, generator=torch.Generator().manual_seed(seed))


def modulation() -> Modulation:
    return Modulation(*(0.5 * tokens(2, 1, 1, 1, seed=seed) for seed in (5, 6, 7)))


def captions(count: int, lengths: list[int], longest: int = 5) -> Text:
    seen = torch.arange(longest) < torch.tensor(lengths)[:, None]
    return Text(tokens(count, longest, seed=2), torch.where(seen, 0.0, UNSEEN)[:, None, None])


def one_by_one(attention: nn.Module, x: Tensor, text: Text, window: Window, per_frame: bool) -> Tensor:
    """Each token over the tokens of its window and the words of its caption, as W.A.L.T writes it."""
    read = modulation()
    y = functional.layer_norm(x, (WIDTH,), eps=1e-6) * (1 + read.scale) + read.shift
    out = torch.zeros_like(x)
    batch, *grid = x.shape[:4]
    places = [(t, h, w) for t in range(grid[0]) for h in range(grid[1]) for w in range(grid[2])]

    def cell(place: tuple[int, int, int]) -> tuple[int, ...]:
        return tuple(i // (n or whole) for i, n, whole in zip(place, window.size, grid, strict=True))

    for b in range(batch):
        for place in places:
            caption = b * grid[0] + place[0] if per_frame else b
            words = text.tokens[caption][text.bias[caption, 0, 0] == 0]
            seen = torch.stack([y[(b, *other)] for other in places if cell(other) == cell(place)])
            joined = torch.cat([seen, words])
            q = attention.query(y[(b, *place)]).view(HEADS, HEAD)
            k, v = attention.key_value(joined).view(-1, 2, HEADS, HEAD).unbind(1)
            weights = (torch.einsum("hd,mhd->hm", q, k) / HEAD**0.5).softmax(-1)
            out[(b, *place)] = attention.projection(torch.einsum("hm,mhd->hd", weights, v).flatten())
    return x + read.gate * out


@pytest.mark.parametrize("grid", [(3, 4, 4), (2, 3, 5)], ids=["whole windows", "cut windows"])
@pytest.mark.parametrize("across", [False, True], ids=["frames", "bricks"])
@torch.inference_mode()
def test_words_and_the_window_share_keys_and_values(grid: tuple[int, int, int], across: bool):
    block = Window(size=(3, 2, 4))
    attention = drawn(SharedText(across_frames=across).attention(HEADS, HEAD, block))
    x, text = tokens(2, *grid), captions(2, [2, 5])
    window = block if across else Window(size=(1, 2, 4))
    expected = one_by_one(attention, x, text, window, per_frame=False)
    torch.testing.assert_close(attention(x, text, modulation()), expected, atol=1e-5, rtol=0)


@torch.inference_mode()
def test_every_frame_can_have_its_own_caption():
    attention = drawn(SharedText().attention(HEADS, HEAD, Window(size=(3, 2, 2))))
    x, text = tokens(2, 3, 4, 4), captions(6, [1, 2, 3, 4, 5, 1])
    expected = one_by_one(attention, x, text, Window(size=(1, 2, 2)), per_frame=True)
    torch.testing.assert_close(attention(x, text, modulation()), expected, atol=1e-5, rtol=0)


def test_a_window_of_several_frames_cannot_read_several_captions():
    attention = SharedText(across_frames=True).attention(HEADS, HEAD, Window(size=(3, 2, 2)))
    with pytest.raises(ValueError, match="captions per frame need text windows of one frame"):
        attention(tokens(2, 3, 4, 4), captions(6, [1] * 6), modulation())


@torch.inference_mode()
def test_captions_per_frame_are_read_as_if_every_frame_were_a_sample():
    attention = drawn(TextAttention(HEADS, HEAD))
    x, text = tokens(2, 3, 4, 4), captions(6, [1, 2, 3, 4, 5, 1])
    apart = attention(x.flatten(0, 1)[:, None], text).view_as(x)
    torch.testing.assert_close(attention(x, text), apart)


def test_a_caption_for_some_frames_is_refused_with_both_numbers():
    with pytest.raises(ValueError, match="2 captions per sample for 3 latent frames"):
        CaptionProjection(4, WIDTH).read(torch.zeros(1, 2, 5, 4), torch.ones(1, 2, 5), 3)


def test_a_missing_caption_is_refused():
    with pytest.raises(ValueError, match="give it text and text_mask"):
        CaptionProjection(4, WIDTH).read(None, None, 1)
