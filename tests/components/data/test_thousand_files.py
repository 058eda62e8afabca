"""A thousand files of which three are bad, and a run that is killed: what the stages promise, at the size promised."""

import os
import signal
import time

import pytest
from many_files import BAD, STAGES, WORKS, finish, kept, make, manifests, report, start

FILES = 1000
GOOD = FILES - len(BAD)
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def once(tmp_path_factory):
    """A workspace after the stages, run without an interruption."""
    root = make(tmp_path_factory.mktemp("once"), FILES, runtime__item_seconds=3)
    for stage in STAGES:
        finish(start(root, stage))
    return root


def test_each_bad_file_is_named_with_its_reason_and_all_others_become_clips(once):
    ingest = report(once, "ingest")
    assert ingest.reasons == dict.fromkeys(BAD.values(), 1)
    named = {tuple(note.split(": ")[:2]) for note in ingest.notes if ".mp4" in note}
    assert named == {(f"{name}.mp4", reason) for name, reason in BAD.items()}
    assert ingest.balance["files"]["kept"] == report(once, "split").counts["clips"] == GOOD
    assert report(once, "score").counts == {"clips": GOOD, "scored": GOOD, "failed": 0}


def test_killed_in_every_stage_and_run_again_no_item_is_done_twice_and_the_tables_are_the_same(
    once, tmp_path
):
    root = make(tmp_path / "killed", FILES, runtime__item_seconds=3)
    for stage in STAGES:
        watched = {"score": "score/text"}.get(stage, stage)
        kill_after(start(root, stage), root, watched, 300)
        assert 300 <= kept(root, watched).total() < GOOD
        finish(start(root, stage))
    assert manifests(root) == manifests(once)
    for name in WORKS:
        again = sum(times - 1 for times in kept(root, name).values())
        assert again <= 1  # a line that the kill cut off is no result
        assert len(kept(root, name)) == len(kept(once, name))


def kill_after(process, root, name, items):
    """SIGKILL to the stage and all its workers, as when a machine goes down."""
    try:
        while kept(root, name).total() < items and process.poll() is None:
            time.sleep(0.02)
        assert process.poll() is None
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
