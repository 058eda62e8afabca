"""The clip table: what a manifest names can be read back, whatever else was done to the table."""

import random
from pathlib import Path

import lance
import pyarrow as pa
import pytest

from components.artifacts import sha256_of
from components.data import store
from components.errors import ContractError

IDS = [f"{index:016x}" for index in range(40)]


def clips(seconds: float = 2.0) -> pa.Table:
    """Rows in a random order; the store sorts them."""
    ids = random.Random(3).sample(IDS, len(IDS))
    return pa.table({"clip_id": ids, "source": [f"{i}.mp4" for i in ids], "seconds": [seconds] * len(ids)})


def scores(value: float = 1.0) -> pa.Table:
    ids = random.Random(4).sample(IDS, len(IDS))
    values = [None if i.endswith("7") else value + int(i, 16) for i in ids]
    return pa.table({"clip_id": ids, "motion": pa.array(values, pa.float32())})


def reasons(bound: float) -> pa.Table:
    values = [["too_static", "blurry"] if int(i, 16) < bound else [] for i in IDS]
    return pa.table({"clip_id": IDS, "reasons": pa.array(values, pa.list_(pa.string()))})


class Workspace:
    """Stands for the stages: each reads the manifest of the one before and writes its own."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def manifest(self, stage: str) -> Path:
        return self.root / "artifacts" / "clips" / f"{stage}.json"

    def split(self, seconds: float = 2.0) -> Path:
        store.create(self.root, "clips", clips(seconds), "split").write(self.manifest("split"))
        return self.manifest("split")

    def add(self, stage: str, before: str, table: pa.Table) -> Path:
        store.add_columns(self.root, self.manifest(before), table, stage).write(self.manifest(stage))
        return self.manifest(stage)

    def read(self, stage: str, *columns: str) -> dict[str, list]:
        return store.read(self.root, self.manifest(stage), list(columns) or None).to_pydict()

    def data_files(self) -> dict[str, int]:
        return {path.name: path.stat().st_size for path in (self.root / "store/clips.lance/data").iterdir()}


@pytest.fixture
def workspace(tmp_path):
    return Workspace(tmp_path)


def test_rows_come_back_sorted_by_their_id_with_every_value(workspace):
    workspace.split()
    workspace.add("score", "split", scores(1.0))
    table = workspace.read("score")
    assert table["clip_id"] == IDS
    assert table["source"] == [f"{i}.mp4" for i in IDS]
    assert table["motion"] == [None if i.endswith("7") else 1.0 + int(i, 16) for i in IDS]
    assert list(workspace.read("score", "motion", "clip_id")) == ["motion", "clip_id"]


def test_text_of_more_than_arrow_takes_at_once_is_put_in_the_order_of_the_key():
    """Captions of ten million clips are more than the 2 GiB of one array; rows in order are not copied at all."""
    megabyte = pa.array(["x" * 1_000] * 1_000)
    ids = pa.array([f"{index:016x}" for index in range(2_200_000)])
    table = pa.table({"clip_id": ids, "caption": pa.chunked_array([megabyte] * 2_200)})
    assert table["caption"].nbytes > 1 << 31
    before = pa.total_allocated_bytes()
    ordered = store._by_key(table, "clip_id")
    assert ordered["caption"].nbytes == table["caption"].nbytes
    assert pa.total_allocated_bytes() - before < 1 << 27


def test_rows_in_pieces_out_of_order_are_stored_in_the_order_of_the_key(workspace, monkeypatch):
    monkeypatch.setattr(store, "BATCH_ROWS", 7)  # rows that are brought into order at a time
    workspace.split()
    table = scores()
    texts = table.append_column("text", pa.array([f"clip {each}" for each in table["clip_id"].to_pylist()]))
    texts = texts.append_column("words", pa.array([["a", each] for each in table["clip_id"].to_pylist()]))
    pieces = pa.concat_tables([texts.slice(0, 3), texts.slice(3, 20), texts.slice(23)])
    workspace.add("score", "split", pieces)
    found = workspace.read("score", "clip_id", "motion", "text", "words")
    assert found["clip_id"] == IDS
    assert found["text"] == [f"clip {each}" for each in IDS]
    assert found["words"] == [["a", each] for each in IDS]
    assert found["motion"] == [None if each.endswith("7") else 1.0 + int(each, 16) for each in IDS]


def test_the_same_content_made_again_is_the_same_manifest_byte_for_byte(workspace, tmp_path_factory):
    other = Workspace(tmp_path_factory.mktemp("elsewhere"))
    other.split(9.0)  # another history of the table itself
    for place in (workspace, other):
        place.split()
        place.add("score", "split", scores())
    assert sha256_of(workspace.manifest("score")) == sha256_of(other.manifest("score"))
    before = sha256_of(workspace.manifest("score"))
    workspace.split(5.0)
    workspace.split()
    workspace.add("score", "split", scores())
    assert sha256_of(workspace.manifest("score")) == before
    workspace.add("score", "split", scores(2.0))
    assert sha256_of(workspace.manifest("score")) != before


def test_adding_columns_does_not_write_the_columns_that_are_there_again(workspace, monkeypatch):
    small = lance.write_dataset
    monkeypatch.setattr(lance, "write_dataset", lambda *a, **k: small(*a, **k, max_rows_per_file=16))
    workspace.split()
    before = workspace.data_files()
    assert len(before) == 3  # 40 rows in files of 16
    workspace.add("score", "split", scores())
    after = workspace.data_files()
    assert {name: after[name] for name in before} == before
    dataset = lance.dataset(workspace.root / "store/clips.lance")
    for fragment in dataset.get_fragments():
        old, new = fragment.data_files()
        assert Path(old.path).name in before
        assert len(new.fields) == 1  # motion alone
    assert workspace.read("score")["motion"][:2] == [1.0, 2.0]


def test_a_middle_stage_run_again_gives_the_right_rows_to_it_and_to_what_follows(workspace):
    workspace.split()
    workspace.add("score", "split", scores())
    captions = pa.table({"clip_id": IDS, "caption": ["a"] * len(IDS)})
    for bound in (3, 10, 3):  # each time the head of the table is past `score`
        workspace.add("filter", "score", reasons(bound))
        assert sum(map(bool, workspace.read("filter")["reasons"])) == bound
        workspace.add("caption", "filter", captions)
        table = workspace.read("caption")
        assert sum(map(bool, table["reasons"])) == bound
        assert set(table["caption"]) == {"a"}
        assert set(table) == {"clip_id", "source", "seconds", "motion", "reasons", "caption"}
    assert "reasons" not in workspace.read("score")


def test_an_earlier_manifest_stays_readable_after_the_table_was_made_again_from_other_videos(workspace):
    workspace.split()
    old = workspace.manifest("split").read_bytes()
    table = pa.table({"clip_id": ["ff"], "other": [1]})
    store.create(workspace.root, "clips", table, "split").write(workspace.manifest("split"))
    assert workspace.read("split") == {"clip_id": ["ff"], "other": [1]}
    workspace.manifest("split").write_bytes(old)  # what `git checkout` and `dvc checkout` do
    assert workspace.read("split")["clip_id"] == IDS
    workspace.add("score", "split", scores())
    assert workspace.read("score")["seconds"] == [2.0] * len(IDS)


class KilledError(Exception):
    """Stands for a kill: nothing after it runs."""


@pytest.mark.parametrize("stage", ["split", "score"])
def test_a_run_killed_between_the_data_and_its_tag_is_repaired_by_the_next_run(workspace, monkeypatch, stage):
    def killed(*_args, **_kwargs):
        raise KilledError

    if stage == "score":
        workspace.split()
    with monkeypatch.context() as patch:
        patch.setattr(type(lance.write_dataset(pa.table({"a": [1]}), "memory://").tags), "create", killed)
        with pytest.raises(KilledError):
            workspace.split() if stage == "split" else workspace.add("score", "split", scores(7.0))
    assert not workspace.manifest(stage).exists()
    workspace.split()
    workspace.add("score", "split", scores())
    assert workspace.read("score")["motion"][:2] == [1.0, 2.0]
    assert workspace.read("split")["clip_id"] == IDS


def test_a_first_write_killed_before_its_commit_is_repaired_by_the_next_run(workspace):
    litter = workspace.root / "store/clips.lance/data/half.lance"
    litter.parent.mkdir(parents=True)
    litter.write_bytes(b"half a file")
    workspace.split()
    assert workspace.read("split")["clip_id"] == IDS


def test_a_stage_run_twice_adds_no_version_the_second_time(workspace):
    workspace.split()
    workspace.add("score", "split", scores())
    version = lance.dataset(workspace.root / "store/clips.lance").latest_version
    workspace.split()
    workspace.add("score", "split", scores())
    assert lance.dataset(workspace.root / "store/clips.lance").latest_version == version


def test_a_missing_table_names_every_stage_to_run_again_in_order(workspace, tmp_path_factory):
    workspace.split()
    workspace.add("score", "split", scores())
    empty = Workspace(tmp_path_factory.mktemp("clone"))  # a clone that has the manifests and not the table
    empty.manifest("score").parent.mkdir(parents=True)
    for stage in ("split", "score"):
        empty.manifest(stage).write_bytes(workspace.manifest(stage).read_bytes())
    assert not store.is_stored(empty.root, empty.manifest("score"))
    with pytest.raises(ContractError, match="stage split --force && reelforge stage score --force"):
        empty.read("score")
    empty.split()
    with pytest.raises(ContractError, match="`reelforge stage score --force`"):
        empty.read("score")
    empty.add("score", "split", scores())
    assert store.is_stored(empty.root, empty.manifest("score"))


def test_notes_of_a_stage_reach_the_stages_after_it_and_are_part_of_the_content(workspace):
    root, split = workspace.root, workspace.split()
    plain, enabled, disabled = (
        store.add_columns(root, split, scores(), "score", notes=notes)
        for notes in (None, {"motion": "enable"}, {"motion": "disable"})
    )
    assert len({manifest.tag for manifest in (plain, enabled, disabled)}) == 3
    enabled.write(workspace.manifest("score"))
    later = store.Manifest.read(workspace.add("filter", "score", reasons(3)))
    assert later.notes == {"score": {"motion": "enable"}}


def test_rows_of_another_table_and_columns_that_exist_are_refused(workspace):
    workspace.split()
    with pytest.raises(ValueError, match="39 rows are not the 40 of split-"):
        workspace.add("score", "split", scores().slice(1))
    with pytest.raises(ValueError, match="has the columns seconds, source already"):
        workspace.add("score", "split", clips())
    with pytest.raises(ValueError, match="each row once"):
        store.create(workspace.root, "clips", pa.table({"clip_id": ["a", "a"]}), "split")


def test_a_missing_column_and_an_edited_manifest_are_named(workspace):
    path = workspace.split()
    with pytest.raises(ContractError, match="no column motion"):
        workspace.read("split", "motion")
    path.write_text(path.read_text().replace('"rows": 40', '"rows": 41'))
    with pytest.raises(ContractError, match="changed by hand"):
        workspace.read("split")
    path.write_text("{}")
    with pytest.raises(ContractError, match="not the manifest"):
        workspace.read("split")


def test_a_table_without_rows_can_be_stored_and_extended(workspace):
    store.create(workspace.root, "clips", clips().slice(0, 0), "split").write(workspace.manifest("split"))
    workspace.add("score", "split", scores().slice(0, 0))
    assert workspace.read("score")["motion"] == []


@pytest.mark.parametrize(
    "other",
    [
        pa.array(["ab", "c", None]),
        pa.array(["a", "bc", ""]),
        pa.array(["a", "bc"]),
        pa.array([["a"], ["b", "c"], None]),
        pa.array([["a", "b"], ["c"], None]),
        pa.array([["a"], [], ["b", "c"]]),
        pa.array([1, 2, None]),
        pa.array([1.0, 2.0, None]),
        pa.array([True, False, None]),
    ],
    ids=str,
)
def test_a_column_digest_depends_on_values_and_not_on_chunks(other):
    base = pa.array(["a", "bc", None])
    assert store.column_digest(pa.chunked_array([base])) != store.column_digest(pa.chunked_array([other]))
    pieces = pa.chunked_array([other.slice(0, 1), other.slice(1)])
    assert store.column_digest(pieces) == store.column_digest(pa.chunked_array([other]))
