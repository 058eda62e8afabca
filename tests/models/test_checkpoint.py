"""Checkpoints: whatever is wrong with one is refused with its name, and a whole one comes back bit for bit."""

import json
import shutil

import pytest
import torch
from diffusers import PixArtTransformer2DModel
from safetensors.torch import load_file, save_file

from models.checkpoint import load_diffusers, load_weights, read_tensors, weight_files
from models.transformers.video_transformer import VideoTransformer
from tests.tiny_parts import tiny_transformer

SHARD = "20KB"


@pytest.fixture(scope="module")
def model() -> VideoTransformer:
    return tiny_transformer()


@pytest.fixture
def folder(model, tmp_path):
    """A sharded checkpoint."""
    model.save_pretrained(tmp_path / "model", max_shard_size=SHARD)
    assert len(list((tmp_path / "model").glob("*.safetensors"))) > 3
    return tmp_path / "model"


def same(one: torch.nn.Module, two: torch.nn.Module) -> bool:
    first, second = one.state_dict(), two.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_a_sharded_folder_comes_back_bit_for_bit(model, folder):
    assert same(VideoTransformer.from_pretrained(folder), model)
    assert same(VideoTransformer.from_pretrained(str(folder)), model)


def test_a_loaded_model_answers_like_the_saved_one(model, folder):
    torch.manual_seed(0)
    call = {
        "latents": torch.randn(1, 4, 3, 4, 6),
        "timestep": torch.tensor([300.0]),
        "text": torch.randn(1, 5, 32),
        "text_mask": torch.ones(1, 5),
        "fps": torch.tensor([8.0]),
        "size": torch.tensor([[16.0, 24.0]]),
    }
    model.eval()
    # tensors mapped from a file are aligned otherwise than allocated ones, which changes the order of sums
    assert torch.allclose(VideoTransformer.from_pretrained(folder)(**call), model(**call), atol=1e-4)


def test_weights_can_be_loaded_in_another_precision(model, folder):
    loaded = VideoTransformer.from_pretrained(folder, torch_dtype=torch.bfloat16)
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.bfloat16}
    assert torch.equal(loaded.final.projection.weight, model.final.projection.weight.bfloat16())


def test_a_model_without_weights_takes_those_of_a_folder(model, folder):
    with torch.device("meta"):
        empty = VideoTransformer.from_config(model.config)
    load_weights(empty, folder)
    assert same(empty, model)
    assert [p.requires_grad for p in empty.parameters()] == [p.requires_grad for p in model.parameters()]


def test_a_model_with_weights_keeps_its_own_memory(model, folder):
    other = VideoTransformer.from_config(model.config)
    address = other.final.projection.weight.data_ptr()
    load_weights(other, folder, dtype=torch.bfloat16)
    assert other.final.projection.weight.data_ptr() == address
    assert torch.equal(other.final.projection.weight, model.final.projection.weight.bfloat16().float())


def test_a_missing_shard_is_named(folder):
    victim = sorted(folder.glob("*.safetensors"))[1]
    victim.unlink()
    with pytest.raises(ValueError, match=f"missing: {victim.name}"):
        VideoTransformer.from_pretrained(folder)


def test_a_truncated_shard_is_named(folder):
    victim = sorted(folder.glob("*.safetensors"))[1]
    victim.write_bytes(victim.read_bytes()[:-5])
    with pytest.raises(ValueError, match=f"{victim.name} .* is no whole safetensors file.*again"):
        VideoTransformer.from_pretrained(folder)


@pytest.mark.parametrize("length", [0, 4, 40])
def test_a_file_cut_within_its_header_is_named(model, tmp_path, length):
    model.save_pretrained(tmp_path)
    (victim,) = tmp_path.glob("*.safetensors")
    victim.write_bytes(victim.read_bytes()[:length])
    with pytest.raises(ValueError, match=rf"{victim.name} \({length} bytes\) is no whole safetensors file"):
        VideoTransformer.from_pretrained(tmp_path)


def test_a_broken_index_is_named(folder):
    (index,) = folder.glob("*.index.json")
    index.write_text(index.read_text()[:-20])
    with pytest.raises(ValueError, match=r"index\.json is no JSON"):
        VideoTransformer.from_pretrained(folder)
    index.write_text("{}")
    with pytest.raises(ValueError, match="no weight_map"):
        VideoTransformer.from_pretrained(folder)


def test_a_checkpoint_of_another_class_is_refused(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"_class_name": "LTXVideoTransformer3DModel"}))
    with pytest.raises(ValueError, match="is of a LTXVideoTransformer3DModel, not of a VideoTransformer"):
        VideoTransformer.from_pretrained(folder)


def test_weights_of_another_size_are_refused_with_both_shapes(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"caption_channels": 48}))
    with pytest.raises(ValueError, match=r"caption.hidden.weight is \(32, 32\), the model's is \(32, 48\)"):
        VideoTransformer.from_pretrained(folder)


def test_a_preset_refuses_the_checkpoint_of_another_and_says_what_differs(model, folder):
    with torch.device("meta"):
        deeper = VideoTransformer.from_config({**model.config, "depth": 3})
    with pytest.raises(ValueError, match=r"tensors are missing \(layers.2.*depth is 2 there and 3 here"):
        load_weights(deeper, folder)
    assert all(parameter.is_meta for parameter in deeper.parameters())


def test_missing_and_unexpected_tensors_are_both_named(model, tmp_path):
    model.save_pretrained(tmp_path)
    (file,) = tmp_path.glob("*.safetensors")
    state = load_file(file)
    state["final.extra"] = state.pop("final.table")
    save_file(state, file)
    message = r"1 tensors are missing \(final.table\) and 1 tensors are unexpected \(final.extra\)"
    with pytest.raises(ValueError, match=message):
        VideoTransformer.from_pretrained(tmp_path)


def test_an_empty_folder_and_one_that_is_not_there_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"has no config\.json"):
        VideoTransformer.from_pretrained(tmp_path)
    with pytest.raises(ValueError, match="there is no folder"):
        VideoTransformer.from_pretrained(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="holds no weights"):
        weight_files(tmp_path)


def test_weights_without_safetensors_are_read_as_tensors_only(model, tmp_path):
    model.save_pretrained(tmp_path, safe_serialization=False)
    assert not list(tmp_path.glob("*.safetensors"))
    assert same(VideoTransformer.from_pretrained(tmp_path), model)
    assert read_tensors(tmp_path).keys() == model.state_dict().keys()


@pytest.fixture
def pixart(tmp_path):
    """A folder of diffusers' PixArt, which `load_diffusers` reads."""
    inner = PixArtTransformer2DModel(
        num_attention_heads=2,
        attention_head_dim=8,
        in_channels=4,
        out_channels=8,
        num_layers=1,
        cross_attention_dim=16,
        sample_size=8,
        caption_channels=12,
        use_additional_conditions=False,
    )
    inner.save_pretrained(tmp_path / "pixart")
    return tmp_path / "pixart"


def test_a_model_of_diffusers_is_loaded_whole_or_not_at_all(pixart):
    assert load_diffusers(PixArtTransformer2DModel, pixart).config.num_layers == 1
    (file,) = pixart.glob("*.safetensors")
    state = load_file(file)
    table = state.pop("scale_shift_table")
    save_file(state, file)
    with pytest.raises(ValueError, match=r"1 tensors are missing \(scale_shift_table\)"):
        load_diffusers(PixArtTransformer2DModel, pixart)
    save_file(state | {"scale_shift_table": table, "extra": table.clone()}, file)
    with pytest.raises(ValueError, match=r"1 tensors are unexpected \(extra\)"):
        load_diffusers(PixArtTransformer2DModel, pixart)
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(ValueError, match="is no whole safetensors file"):
        load_diffusers(PixArtTransformer2DModel, pixart)


class RunsCode:
    def __reduce__(self):
        return print, ("this must not run",)


def test_a_pickle_that_could_run_code_is_not_opened(tmp_path, capsys):
    torch.save({"weight": torch.ones(2), "other": RunsCode()}, tmp_path / "model.pth")
    with pytest.raises(ValueError, match=r"model.pth holds more than tensors.*state dict alone"):
        read_tensors(tmp_path / "model.pth")
    assert "must not run" not in capsys.readouterr().out


def test_a_pickle_cut_short_is_named(tmp_path):
    torch.save({"weight": torch.ones(500)}, tmp_path / "model.pt")
    whole = (tmp_path / "model.pt").read_bytes()
    (tmp_path / "model.pt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"model.pt .*(cut short|more than tensors)"):
        read_tensors(tmp_path / "model.pt")


def test_files_of_other_layouts_are_read_whole(tmp_path):
    state = {"a": torch.randn(3), "b.c": torch.randn(2, 2)}
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "theirs.pth")
    torch.save(state, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    save_file(state, tmp_path / "ours.safetensors")
    for name in ("theirs.pth", "old.pt", "ours.safetensors"):
        read = read_tensors(tmp_path / name)
        assert read.keys() == state.keys()
        assert all(torch.equal(read[key], state[key]) for key in state)


def test_what_is_no_state_dict_is_refused(tmp_path):
    torch.save([torch.ones(1)], tmp_path / "list.pt")
    with pytest.raises(ValueError, match="besides tensors by name"):
        read_tensors(tmp_path / "list.pt")
    shutil.copy(tmp_path / "list.pt", tmp_path / "list.ckpt")
    with pytest.raises(ValueError, match="known kinds"):
        read_tensors(tmp_path / "list.ckpt")
