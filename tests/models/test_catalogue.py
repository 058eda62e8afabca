"""The catalogue: the sizes are those published, and every shape is what the parts make of it."""

import json

import pytest
import torch

from models.autoencoders.presets import AUTOENCODERS
from models.catalogue import TWIN, Entry, catalogue, entry, names
from models.shapes import token_grid
from models.transformers.presets import preset

PUBLISHED = {  # parameters, and the relative tolerance of the publication
    "stdit3-xl-2": (1_207_643_972, 0.0),
    "stdit3-3b-2": (3_182_211_572, 0.0),
    "pixart-sigma-xl-2": (0.61e9, 0.005),
    "walt-l-r2": (313e6, 0.002),
    "walt-l-r4": (314e6, 0.002),
    "walt-l-r16": (316e6, 0.002),
    "walt-l-r64": (324e6, 0.002),
    "walt-l-r256": (357e6, 0.002),
    "walt-l-separate": (458e6, 0.002),
    "walt-xl": (460e6, 0.002),
    "walt-imagenet-l": (460e6, 0.002),
    "walt-t2v-l": (419e6, 0.002),
    "walt-t2v-3b": (3.10e9, 0.002),  # "3B"; by the formula for the width that was chosen
    "walt-sr-2x": (1.3e9, 0.0025),
    "walt-sr-2x2x": (419e6, 0.01),
    "hdvila-flat": (418e6, 0.002),  # by the formula
    "hdvila-hourglass": (429e6, 0.01),
    "causal-5b": (5.0e9, 0.01),
    "walt-causal-3d": (370.4e6, 0.005),
}


@pytest.fixture(scope="module")
def entries() -> dict[str, Entry]:
    return {found.name: found for found in catalogue()}


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_parameters_are_those_published(entries, name):
    count, tolerance = PUBLISHED[name]
    assert abs(entries[name].parameters - count) <= tolerance * count


def test_the_video_autoencoder_is_its_two_parts(entries):
    found = entries["opensora-vae-1.2"]
    assert found.parts["temporal"] == 309_687_144
    assert found.parameters == sum(found.parts.values())


@pytest.mark.parametrize("name", [name for name in names() if name.endswith(TWIN)])
def test_a_twin_is_small_and_counted_without_the_meta_device_alike(name):
    found = entry(name)
    assert found.is_twin
    assert found.parameters < 2_000_000
    built = preset(name) if found.kind == "transformer" else AUTOENCODERS[name].build()
    assert sum(parameter.numel() for parameter in built.parameters()) == found.parameters


def test_the_catalogue_holds_every_preset_once_and_twins_only_on_request(entries):
    assert list(entries) == [name for name in names() if not name.endswith(TWIN)]
    assert {f"{name}{TWIN}" for name in entries} | set(entries) == set(names())


def test_a_transformer_takes_what_its_autoencoder_makes(entries):
    for found in entries.values():
        if found.kind == "transformer":
            geometry = AUTOENCODERS[found.autoencoder].geometry()
            assert found.latent == geometry.latent_shape(*found.video), found.name


def test_tokens_are_those_of_the_published_resolution(entries):
    assert entries["stdit3-xl-2"].tokens == 15 * 405  # 405 per frame at 240p, as published
    assert entries["walt-xl"].tokens == 1280
    assert entries["walt-sr-2x"].tokens == entries["walt-sr-2x2x"].tokens == 5 * 16 * 28
    for found in entries.values():
        if found.kind == "transformer":
            frames, rows, columns = token_grid(found.latent[1:], found.config["patch"])
            assert found.tokens == frames * rows * columns


def test_an_entry_is_json(entries):
    for found in entries.values():
        assert json.loads(json.dumps(found.as_dict()))["parameters"] == found.parameters
        assert json.loads(json.dumps(found.config))


def test_counting_takes_no_memory():
    with torch.device("meta"):
        model = preset("causal-5b")
    assert all(parameter.is_meta for parameter in model.parameters())


def test_an_unknown_model_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"no model `stdit`.*stdit3-xl-2.*walt-causal-3d"):
        entry("stdit")
