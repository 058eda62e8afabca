"""Weights on disk: folders in the layout of diffusers, and single files of others.

diffusers itself loads memory-mapped and shard by shard onto a model without weights, so that memory peaks
less than one shard above the model (`benchmarks/checkpoint_memory.py`). But it only warns of tensors that are
missing or unknown, and a file that was cut short ends in an error about git. Here names and shapes are read
from the headers and compared before anything is loaded, and every mismatch is an error that says what to do.
"""

import json
import pickle
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Self

import torch
from diffusers.configuration_utils import ConfigMixin
from diffusers.models.modeling_utils import ModelMixin
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

State = dict[str, Tensor]
CONFIG = "config.json"
NAMES = ("diffusion_pytorch_model", "model", "pytorch_model")  # of diffusers, of transformers
KINDS = (".safetensors", ".bin", ".pt", ".pth")
SHOWN = 6  # names in a message
WRAPPERS = ("state_dict", "model", "module")  # under which trainers put the weights beside other things


class CheckedModel(ModelMixin, ConfigMixin):  # type: ignore[misc]  # diffusers has no types
    """A diffusers model whose `from_pretrained` accepts exactly its own weights."""

    @classmethod
    def from_pretrained(cls, source: Path | str, **options: Any) -> Self:
        """The model in a folder (or of a name on the hub), with the options of diffusers such as `torch_dtype`.

        Raises `ValueError` naming file or tensor where the folder holds a model of another class, a file is
        missing or cut short, or names or shapes are not those of its configuration.
        """
        folder = Path(source, options.get("subfolder") or "")
        if folder.is_dir():
            cls.check_folder(folder, options.get("variant"))
        elif isinstance(source, Path) or folder.is_absolute():
            raise ValueError(f"there is no folder {folder}; give one that `save_pretrained` wrote")
        model: Self
        model, found = super().from_pretrained(source, **options, output_loading_info=True)
        _require_same_names(found["missing_keys"], found["unexpected_keys"], str(source))
        return model

    @classmethod
    def check_folder(cls, folder: Path, variant: str | None = None) -> None:
        """Raises `ValueError` unless the folder holds this class with all its weights; reads headers only."""
        path = folder / CONFIG
        if not path.is_file():
            raise ValueError(f"{folder} has no {CONFIG}: it is no folder of a {cls.__name__}")
        config = read_json(path)
        if (found := config.get("_class_name", cls.__name__)) != cls.__name__:
            raise ValueError(f"{path} is of a {found}, not of a {cls.__name__}; load it with that class")
        files = weight_files(folder, variant)
        if all(file.suffix == ".safetensors" for file in files):
            with torch.device("meta"):
                expected = cls.from_config(config).state_dict()
            check_exact(shapes_of(expected), shapes_in(files), str(folder))


def load_diffusers(kind: type[Any], folder: Path) -> Any:
    """A model of one of diffusers' own classes, which may rename what it finds.

    Raises `ValueError` where a file is missing or cut short, or where tensors are missing or unknown.
    """
    shapes_in(file for file in weight_files(folder) if file.suffix == ".safetensors")
    model, found = kind.from_pretrained(folder, output_loading_info=True)
    _require_same_names(found["missing_keys"], found["unexpected_keys"], str(folder))
    return model


def load_weights(model: nn.Module, source: Path, *, dtype: torch.dtype | None = None) -> None:
    """Put the weights of a file or folder into a model that was built already, as from a preset.

    A model on the meta device takes the memory-mapped tensors themselves, and only what it reads is ever in
    memory. `dtype` converts floating-point tensors on the way, one file at a time. Raises `ValueError`,
    before anything is loaded, unless names and shapes are exactly those of the model.
    """
    files = weight_files(source)
    states = None if all(file.suffix == ".safetensors" for file in files) else read_tensors(source)
    found = shapes_in(files) if states is None else shapes_of(states)
    check_exact(shapes_of(model.state_dict()), found, str(source), _config_differences(model, source))
    assign = any(value.is_meta for value in model.state_dict().values())
    for state in (states,) if states is not None else map(read_file, files):
        converted = {
            name: value.to(dtype) if dtype is not None and value.is_floating_point() else value
            for name, value in state.items()
        }
        model.load_state_dict(converted, strict=False, assign=assign)


def read_tensors(source: Path) -> State:
    """The tensors of a file or of a folder, memory-mapped where the format allows.

    Pickles are opened without running code in them. Raises `ValueError` where a file is missing, cut short,
    or holds something besides tensors by name.
    """
    state: State = {}
    for file in weight_files(source):
        state |= read_file(file)
    return state


def read_file(path: Path) -> State:
    """The tensors of one file, as `read_tensors`."""
    if path.suffix == ".safetensors":
        with _open(path) as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no mapping
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path} holds more than tensors, and opening it could run code in it ({_first_line(error)});"
            " where you trust it, save its state dict alone, best as .safetensors"
        ) from None
    except (RuntimeError, EOFError, OSError) as error:
        raise ValueError(f"{path} is broken or cut short ({_first_line(error)}); fetch it again") from None
    state = (
        next((loaded[key] for key in WRAPPERS if key in loaded), loaded)
        if isinstance(loaded, dict)
        else loaded
    )
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"{path} holds something besides tensors by name; save its state dict alone")
    return state


def weight_files(source: Path, variant: str | None = None) -> list[Path]:
    """The files that hold the weights: `source` itself, or those of a folder, sharded or not.

    Raises `ValueError` where there are none, or a shard is missing.
    """
    if source.is_file():
        if source.suffix not in KINDS:
            raise ValueError(f"{source} is no weights file; known kinds: {', '.join(KINDS)}")
        return [source]
    suffix = f".{variant}" if variant else ""
    names = [f"{name}{kind}" for kind in KINDS[:2] for name in NAMES]
    for name in names:
        stem, kind = name.rsplit(".", 1)
        single, index = source / f"{stem}{suffix}.{kind}", source / f"{stem}.{kind}.index{suffix}.json"
        if single.is_file():
            return [single]
        if index.is_file():
            return _shards(index)
    raise ValueError(f"{source} holds no weights; looked for {', '.join(names[: len(NAMES)])} or their index")


def shapes_in(files: Iterable[Path]) -> dict[str, tuple[int, ...]]:
    """Names and shapes of all tensors in safetensors files, from their headers."""
    shapes: dict[str, tuple[int, ...]] = {}
    for path in files:
        with _open(path) as file:
            for name in file.keys():  # noqa: SIM118  # no mapping
                shapes[name] = tuple(file.get_slice(name).get_shape())
    return shapes


def shapes_of(state: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """Names and shapes of tensors."""
    return {name: tuple(value.shape) for name, value in state.items()}


def check_exact(
    expected: Mapping[str, tuple[int, ...]],
    found: Mapping[str, tuple[int, ...]],
    where: str,
    hint: str = "",
) -> None:
    """Raises `ValueError` unless names and shapes are equal. `hint` says more about what was found."""
    _require_same_names(expected.keys() - found.keys(), found.keys() - expected.keys(), where, hint)
    wrong = [name for name, shape in expected.items() if found[name] != shape]
    if wrong:
        lines = [f"{name} is {found[name]}, the model's is {expected[name]}" for name in wrong[:SHOWN]]
        raise ValueError(
            f"{where} is a checkpoint of another size: {'; '.join(lines)}{_more(wrong)}.{hint}"
            " Build the model from the config.json that was saved with the weights"
        )


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object. Raises `ValueError` where the file holds none."""
    try:
        value = json.loads(path.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no JSON ({error}); fetch or save it again") from None
    if not isinstance(value, dict):
        raise ValueError(f"{path} holds no JSON object; fetch or save it again")
    return value


def _require_same_names(
    missing: Iterable[str], unexpected: Iterable[str], where: str, hint: str = ""
) -> None:
    lists = {"missing": sorted(missing), "unexpected": sorted(unexpected)}
    said = [
        f"{len(names)} tensors are {what} ({', '.join(names[:SHOWN])}{_more(names)})"
        for what, names in lists.items()
        if names
    ]
    if said:
        raise ValueError(
            f"{where} does not hold the weights of this model: {' and '.join(said)}.{hint}"
            " It is another model's, another version's or not whole; the config.json beside it says whose"
        )


def _shards(index: Path) -> list[Path]:
    """The files that an index names. Raises `ValueError` listing those that are missing."""
    content = read_json(index)
    if not isinstance(content.get("weight_map"), dict):
        raise ValueError(f"{index} has no weight_map: it is no index of a sharded checkpoint")
    names = sorted(set(content["weight_map"].values()))
    missing = [name for name in names if not (index.parent / name).is_file()]
    if missing:
        raise ValueError(
            f"{index.parent} has {len(names) - len(missing)} of {len(names)} shards; missing:"
            f" {', '.join(missing[:SHOWN])}{_more(missing)}; copy or download them again"
        )
    return [index.parent / name for name in names]


def _open(path: Path) -> Any:
    try:
        return safe_open(path, framework="pt")
    except SafetensorError as error:
        raise ValueError(
            f"{path} ({path.stat().st_size:,} bytes) is no whole safetensors file: {_first_line(error)}; it was"
            " probably cut short on the way, copy or download it again"
        ) from None


def _config_differences(model: nn.Module, source: Path) -> str:
    """What the config.json beside the weights says otherwise than the model's."""
    path = (source if source.is_dir() else source.parent) / CONFIG
    if not isinstance(model, ConfigMixin) or not path.is_file():
        return ""
    theirs, ours = read_json(path), json.loads(model.to_json_string())
    keys = [key for key in theirs if not key.startswith("_") and key in ours and ours[key] != theirs[key]]
    said = [f"{key} is {theirs[key]} there and {ours[key]} here" for key in keys[:SHOWN]]
    return f" By {path.name}: {'; '.join(said)}." if said else ""


def _more(names: list[str]) -> str:
    return f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
