"""Open-Sora 1.2's STDiT3 written out once more, plainly, from its description: ours gives the same numbers."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from models.transformers.convert import open_sora_config, open_sora_to_ours, ours_to_open_sora
from models.transformers.presets import preset
from models.transformers.video_transformer import VideoTransformer

HEADS, WIDTH, DEPTH, TOKENS, CAPTION = 4, 64, 2, 12, 32
THEIRS: dict[str, Any] = {
    "depth": DEPTH,
    "hidden_size": WIDTH,
    "num_heads": HEADS,
    "caption_channels": CAPTION,
    "model_max_length": TOKENS,
    "in_channels": 4,
    "patch_size": [1, 2, 2],
    "pred_sigma": True,
    "qk_norm": True,
    "input_sq_size": 512,
}
State = dict[str, Tensor]


def published_shapes(h: int, depth: int, head: int, tokens: int, caption: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the published checkpoint."""
    shapes: dict[str, tuple[int, ...]] = {
        "rope.freqs": (head // 2,),
        "x_embedder.proj.weight": (h, 4, 1, 2, 2),
        "x_embedder.proj.bias": (h,),
        "y_embedder.y_embedding": (tokens, caption),
        "final_layer.scale_shift_table": (2, h),
    }
    linear = {
        "t_embedder.mlp.0": (h, 256),
        "t_embedder.mlp.2": (h, h),
        "fps_embedder.mlp.0": (h, 256),
        "fps_embedder.mlp.2": (h, h),
        "t_block.1": (6 * h, h),
        "y_embedder.y_proj.fc1": (h, caption),
        "y_embedder.y_proj.fc2": (h, h),
        "final_layer.linear": (32, h),
    }
    for block in (f"{kind}_blocks.{n}" for kind in ("spatial", "temporal") for n in range(depth)):
        shapes[f"{block}.scale_shift_table"] = (6, h)
        shapes[f"{block}.attn.q_norm.weight"] = shapes[f"{block}.attn.k_norm.weight"] = (head,)
        linear |= {
            f"{block}.attn.qkv": (3 * h, h),
            f"{block}.attn.proj": (h, h),
            f"{block}.cross_attn.q_linear": (h, h),
            f"{block}.cross_attn.kv_linear": (2 * h, h),
            f"{block}.cross_attn.proj": (h, h),
            f"{block}.mlp.fc1": (4 * h, h),
            f"{block}.mlp.fc2": (h, 4 * h),
        }
    for name, shape in linear.items():
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = shape, shape[:1]
    return shapes


def published_state(seed: int = 0) -> State:
    generator = torch.Generator().manual_seed(seed)
    shapes = published_shapes(WIDTH, DEPTH, WIDTH // HEADS, TOKENS, CAPTION)
    state = {name: 0.1 * torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    state["rope.freqs"] = 10_000.0 ** -(torch.arange(0, 16, 2) / 16)
    return state


class Reference:
    """The forward pass, one step after the other."""

    def __init__(self, state: State) -> None:
        self.state = state

    def linear(self, name: str, x: Tensor) -> Tensor:
        return functional.linear(x, self.state[f"{name}.weight"], self.state[f"{name}.bias"])

    def embed(self, name: str, value: Tensor) -> Tensor:
        # the frequencies as published, in float32: at time 1000 their last digit is 6e-5 of an angle
        angle = value[:, None] * torch.exp(-math.log(10_000) * torch.arange(128, dtype=torch.float32) / 128)
        waves = torch.cat([angle.cos(), angle.sin()], dim=1)
        return self.linear(f"{name}.mlp.2", functional.silu(self.linear(f"{name}.mlp.0", waves)))

    def positions(self, rows: int, columns: int, height: float, width: float) -> Tensor:
        scale, side = math.sqrt(height * width) / 512, round(math.sqrt(rows * columns))
        table = torch.zeros(rows, columns, WIDTH)
        quarter = WIDTH // 4
        for i in range(rows):
            for j in range(columns):
                places = (j / scale * side / columns, i / scale * side / rows)
                for half, place in enumerate(places):
                    for k in range(quarter):
                        angle = place * 10_000.0 ** (-2 * k / (WIDTH // 2))
                        table[i, j, half * 2 * quarter + k] = math.sin(angle)
                        table[i, j, half * 2 * quarter + quarter + k] = math.cos(angle)
        return table

    def norm(self, x: Tensor) -> Tensor:
        return functional.layer_norm(x, (WIDTH,), eps=1e-6)

    def attention(self, block: str, x: Tensor, rotate: bool) -> Tensor:
        """x: (sequences, N, h)."""
        head = WIDTH // HEADS
        q, k, v = self.linear(f"{block}.attn.qkv", x).view(*x.shape[:2], 3, HEADS, head).unbind(2)

        def rms(y: Tensor, name: str) -> Tensor:
            y = y / (y.square().mean(-1, keepdim=True) + 1e-6).sqrt()
            return y * self.state[f"{block}.attn.{name}.weight"]

        q, k = rms(q, "q_norm"), rms(k, "k_norm")
        if rotate:
            angle = torch.arange(x.shape[1])[:, None, None] * self.state["rope.freqs"]

            def turn(y: Tensor) -> Tensor:
                even, odd = y[..., 0::2], y[..., 1::2]
                pair = (
                    even * angle.cos() - odd * angle.sin(),
                    even * angle.sin() + odd * angle.cos(),
                )
                return torch.stack(pair, dim=-1).flatten(-2)

            q, k = turn(q), turn(k)
        weights = torch.einsum("snhd,smhd->shnm", q * head**-0.5, k).softmax(-1)
        return self.linear(f"{block}.attn.proj", torch.einsum("shnm,smhd->snhd", weights, v).flatten(2))

    def cross(self, block: str, x: Tensor, words: list[Tensor]) -> Tensor:
        """x: (B, N, h), the words of each sample without padding."""
        head, rows = WIDTH // HEADS, []
        for tokens, caption in zip(x, words, strict=True):
            q = self.linear(f"{block}.cross_attn.q_linear", tokens).view(-1, HEADS, head)
            k, v = self.linear(f"{block}.cross_attn.kv_linear", caption).view(-1, 2, HEADS, head).unbind(1)
            weights = torch.einsum("nhd,mhd->hnm", q * head**-0.5, k).softmax(-1)
            rows.append(torch.einsum("hnm,mhd->nhd", weights, v).flatten(1))
        return self.linear(f"{block}.cross_attn.proj", torch.stack(rows))

    def block(
        self, block: str, x: Tensor, words: list[Tensor], times: tuple[Tensor, Tensor], x_mask: Tensor
    ) -> Tensor:
        """x: (B, T, S, h)."""
        table = self.state[f"{block}.scale_shift_table"]
        own, zero = ((table + time.view(-1, 6, WIDTH))[:, :, None, None].unbind(1) for time in times)
        chosen = [torch.where(x_mask[:, :, None, None], a, b) for a, b in zip(own, zero, strict=True)]
        shift_msa, scale_msa, gate_msa, shift_mlp, scale_mlp, gate_mlp = chosen
        batch, frames, places, _ = x.shape
        y = self.norm(x) * (1 + scale_msa) + shift_msa
        if block.startswith("spatial"):
            y = self.attention(block, y.flatten(0, 1), rotate=False).view_as(x)
        else:
            y = self.attention(block, y.transpose(1, 2).flatten(0, 1), rotate=True)
            y = y.view(batch, places, frames, WIDTH).transpose(1, 2)
        x = x + gate_msa * y
        x = x + self.cross(block, x.flatten(1, 2), words).view_as(x)
        y = self.linear(f"{block}.mlp.fc1", self.norm(x) * (1 + scale_mlp) + shift_mlp)
        return x + gate_mlp * self.linear(f"{block}.mlp.fc2", functional.gelu(y, approximate="tanh"))

    def final(self, x: Tensor, t: Tensor, t0: Tensor, x_mask: Tensor) -> Tensor:
        def modulate(y: Tensor, time: Tensor) -> Tensor:
            shift, scale = (self.state["final_layer.scale_shift_table"] + time[:, None])[
                :, :, None, None
            ].unbind(1)
            return self.norm(y) * (1 + scale) + shift

        at_t = modulate(x, t)
        at_zero = modulate(at_t, t0)  # of what was modulated already: so it is published
        return self.linear("final_layer.linear", torch.where(x_mask[:, :, None, None], at_t, at_zero))

    def __call__(self, data: dict[str, Tensor]) -> Tensor:
        x = data["latents"]
        batch, _, frames, height, width = x.shape
        rows, columns = -(-height // 2), -(-width // 2)
        x = functional.pad(x, (0, 2 * columns - width, 0, 2 * rows - height))
        name = "x_embedder.proj"
        x = functional.conv3d(x, self.state[f"{name}.weight"], self.state[f"{name}.bias"], stride=(1, 2, 2))
        x = x.permute(0, 2, 3, 4, 1)  # (B, T, rows, columns, h)
        x = (x + self.positions(rows, columns, *data["size"][0].tolist())).flatten(2, 3)
        fps = self.embed("fps_embedder", data["fps"])
        t, t0 = (self.embed("t_embedder", time) + fps for time in (data["timestep"], torch.zeros(batch)))
        times = tuple(self.linear("t_block.1", functional.silu(time)) for time in (t, t0))
        hidden = functional.gelu(self.linear("y_embedder.y_proj.fc1", data["text"]), approximate="tanh")
        captions = self.linear("y_embedder.y_proj.fc2", hidden)
        words = [caption[mask] for caption, mask in zip(captions, data["text_mask"], strict=True)]
        x_mask = data.get("frame_mask", torch.ones(batch, frames, dtype=torch.bool))
        for n in range(DEPTH):
            for kind in ("spatial", "temporal"):
                x = self.block(f"{kind}_blocks.{n}", x, words, times, x_mask)
        x = self.final(x, t, t0, x_mask).view(batch, frames, rows, columns, 2, 2, 8)
        x = x.permute(0, 6, 1, 2, 4, 3, 5).reshape(batch, 8, frames, 2 * rows, 2 * columns)
        return x[..., :height, :width]


def inputs(frames: int, height: int, width: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    mask = torch.zeros(2, TOKENS, dtype=torch.bool)
    mask[0, :5], mask[1, :9] = True, True
    return {
        "latents": torch.randn(2, 4, frames, height, width, generator=generator),
        "timestep": torch.tensor([251.3, 870.0]),
        "text": torch.randn(2, TOKENS, CAPTION, generator=generator),
        "text_mask": mask,
        "fps": torch.tensor([24.0, 120.0]),
        "size": torch.tensor([[8.0 * height, 8.0 * width]] * 2),
    }


def converted(state: State) -> VideoTransformer:
    config = open_sora_config(THEIRS)
    model = VideoTransformer(**config).eval()
    model.load_state_dict(open_sora_to_ours(state, config)[0])
    return model


@pytest.mark.parametrize("grid", [(3, 6, 8), (5, 7, 9), (1, 4, 4)], ids=str)
@pytest.mark.parametrize("masked", [False, True], ids=["unmasked", "masked"])
@torch.inference_mode()
def test_the_output_is_that_of_the_published_forward_pass(grid: tuple[int, int, int], masked: bool):
    state, data = published_state(), inputs(*grid)
    if masked:
        data["frame_mask"] = torch.rand(2, grid[0], generator=torch.Generator().manual_seed(2)) > 0.5
    out = converted(state)(**data)
    torch.testing.assert_close(out, Reference(state)(data), atol=1e-5, rtol=0)


def test_the_small_model_has_the_published_entries_and_parameters():
    config = open_sora_config(THEIRS)
    state = published_state()
    assert len(state) == 89
    model = VideoTransformer(**config)
    theirs = ours_to_open_sora(model.state_dict(), config)
    assert {name: value.shape for name, value in theirs.items()} == {n: v.shape for n, v in state.items()}
    assert sum(parameter.numel() for parameter in model.parameters()) == 342_888


def test_the_large_model_has_the_published_names_and_shapes():
    config = {"depth": 28, "heads": 16, "head_width": 72}
    with torch.device("meta"):
        theirs = ours_to_open_sora(preset("stdit3-xl-2").state_dict(), config)
    expected = published_shapes(1152, 28, 72, 300, 4096)
    assert len(theirs) == 973
    assert {name: tuple(value.shape) for name, value in theirs.items()} == expected


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_make_a_bit_exact_round_trip(dtype: torch.dtype):
    config = open_sora_config(THEIRS)
    state = {name: value.to(dtype) for name, value in published_state().items()}
    ours, report = open_sora_to_ours(state, config)
    back = ours_to_open_sora(ours, config)
    assert back.keys() == state.keys()
    assert all(torch.equal(back[name], value) and back[name].dtype == dtype for name, value in state.items())
    assert set(report.loaded) == set(ours)


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"depth": 3}, "missing"), ({"depth": 1}, "fit nowhere"), ({"hidden_size": 128}, "another size")],
)
def test_a_checkpoint_of_another_preset_is_refused(changes: dict[str, int], said: str):
    with pytest.raises(ValueError, match=said):
        open_sora_to_ours(published_state(), open_sora_config({**THEIRS, **changes}))


def test_the_state_of_another_system_has_no_published_names():
    model = preset("walt-l-r2-tiny")
    with pytest.raises(ValueError, match="has no name in that layout"):
        ours_to_open_sora(model.state_dict(), model.config)
