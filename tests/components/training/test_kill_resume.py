"""A stage that loses its process goes on where it was, as it is run in earnest: `python -m components STAGE`."""

import signal

from components.artifacts import read_json, sha256_of
from components.stages import execute
from tests.stage_workspace import SECONDS, STAGE, make_workspace, start, wait_for_step


def test_a_stage_that_was_killed_and_then_stopped_ends_as_if_nothing_had_happened(tmp_path):
    straight, cut = make_workspace(tmp_path / "straight"), make_workspace(tmp_path / "cut")
    killed = start(cut)
    wait_for_step(cut, 10, killed)
    killed.kill()
    killed.wait()
    stopped = start(cut)
    wait_for_step(cut, 30, stopped)
    stopped.send_signal(signal.SIGTERM)
    said = stopped.communicate(timeout=SECONDS)[1]
    assert stopped.returncode == 128 + signal.SIGTERM, said
    assert "Start the same stage again" in said
    assert not (cut / "artifacts/train/stage1").exists()
    for root in (cut, straight):
        execute(STAGE, root)
    for made in ("artifacts/train/stage1", f"curves/{STAGE}.csv", f"reports/{STAGE}.json"):
        assert sha256_of(cut / made) == sha256_of(straight / made), made
    assert read_json(cut / f"reports/{STAGE}.json")["metrics"]["steps"] == 60
    assert not (cut / "checkpoints" / STAGE).exists()
