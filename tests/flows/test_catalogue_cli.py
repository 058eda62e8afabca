"""`reelforge models` answers anywhere, in print and in JSON."""

import json

from typer.testing import CliRunner

from components.errors import UserError
from flows.cli.catalogue import app
from models.catalogue import catalogue


def said(*arguments: str) -> str:
    """What `reelforge models` prints."""
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    return result.output


def test_the_list_as_json_is_the_catalogue():
    listed = {model["name"]: model for model in json.loads(said("list", "--json"))}
    assert listed["stdit3-xl-2"]["parameters"] == 1_207_643_972
    assert listed["stdit3-3b-2"]["parameters"] == 3_182_211_572
    assert listed["opensora-vae-1.2"]["parts"]["temporal"] == 309_687_144
    assert {name: model["parameters"] for name, model in listed.items()} == {
        entry.name: entry.parameters for entry in catalogue()
    }
    assert listed["stdit3-xl-2"]["tokens"] == 6075
    assert listed["stdit3-xl-2"]["latent"] == [4, 15, 30, 53]


def test_the_table_names_every_model_with_its_numbers_on_one_line():
    lines = said("list").splitlines()
    for entry in catalogue():
        (line,) = [line for line in lines if line.startswith(f"{entry.name} ")]
        assert f"{entry.parameters:,}" in line
        assert "x".join(map(str, entry.latent)) in line
        assert entry.system in line


def test_one_model_is_shown_with_its_configuration():
    shown = said("show", "walt-xl")
    assert "460,029,448" in shown
    assert "qk_norm" in shown
    config = json.loads(said("show", "walt-xl", "--json"))["config"]
    assert config["heads"] * config["head_width"] == 1152


def test_an_unknown_model_is_refused_with_the_known_ones():
    error = CliRunner().invoke(app, ["show", "walt"]).exception
    assert isinstance(error, UserError)
    assert "walt-xl" in str(error)


def test_small_copies_are_listed_on_request():
    named = {model["name"] for model in json.loads(said("list", "--json", "--tiny"))}
    assert {"walt-xl", "walt-xl-tiny"} <= named
