"""`reelforge data verify`, as typed."""

import pytest
from typer.testing import CliRunner

from components.errors import UserError
from flows.cli import data_latents
from flows.cli.data import app
from tests.tiny_latents import make_latents, make_text


def test_verify_names_a_shard_whose_bytes_were_changed_and_only_that(tmp_path, monkeypatch):
    monkeypatch.setattr(data_latents, "ROOT", tmp_path)
    make_text(tmp_path)
    make_latents(tmp_path, "videos", [(5, 16, 16), (1, 16, 16)])
    result = CliRunner().invoke(app, ["verify"])
    assert result.exit_code == 0
    assert "videos: 3 shards" in result.output
    shard = next((tmp_path / "store/latents/videos").glob("5x16x16*.safetensors"))
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1  # as long as it was
    shard.write_bytes(bytes(content))
    result = CliRunner().invoke(app, ["verify"])
    assert isinstance(result.exception, UserError)
    assert f"1 shards are not what was written: latents/videos/{shard.name}" in str(result.exception)


def test_verify_without_latents_says_what_makes_them(tmp_path, monkeypatch):
    monkeypatch.setattr(data_latents, "ROOT", tmp_path)
    with pytest.raises(UserError, match="no latents"):
        data_latents.verify()
