import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.artifacts import StagePaths, fresh_folder, read_json, sha256_of, sha256_of_json, write_json
from components.errors import ContractError

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(value=st.dictionaries(st.text(), VALUES))
def test_the_digest_of_json_does_not_depend_on_key_order(value):
    backwards = dict(reversed(value.items()))
    assert sha256_of_json(value) == sha256_of_json(backwards)


def test_json_survives_a_round_trip_and_nan_is_refused(tmp_path):
    path = tmp_path / "deep" / "x.json"
    write_json(path, {"b": 1, "a": [1.5]})
    assert read_json(path) == {"a": [1.5], "b": 1}
    with pytest.raises(ValueError):
        write_json(path, {"a": float("nan")})
    assert read_json(path) == {"a": [1.5], "b": 1}
    assert [file.name for file in path.parent.iterdir() if not file.name.startswith(".")] == ["x.json"]


def test_the_digest_of_a_folder_sees_names_and_contents(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x").write_text("1")
    first = sha256_of(tmp_path / "a")
    (tmp_path / "a" / "x").rename(tmp_path / "a" / "y")
    renamed = sha256_of(tmp_path / "a")
    (tmp_path / "a" / "y").write_text("2")
    assert len({first, renamed, sha256_of(tmp_path / "a")}) == 3


def test_a_folder_that_fails_halfway_leaves_the_old_one(tmp_path):
    target = tmp_path / "out"
    with fresh_folder(target) as folder:
        (folder / "x").write_text("old")
    with pytest.raises(RuntimeError), fresh_folder(target) as folder:
        (folder / "x").write_text("new")
        raise RuntimeError
    assert (target / "x").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_missing_input_says_how_it_is_made(tmp_path):
    paths = StagePaths(tmp_path, {"clips": tmp_path / "clips.json"}, {}, tmp_path / "checkpoints")
    with pytest.raises(ContractError, match="reelforge run"):
        paths.input("clips")


def test_json_files_are_readable_by_people(tmp_path):
    write_json(tmp_path / "x.json", {"b": 1, "a": 2})
    text = (tmp_path / "x.json").read_text()
    assert text.index('"a"') < text.index('"b"')
    assert json.loads(text) == {"a": 2, "b": 1}
