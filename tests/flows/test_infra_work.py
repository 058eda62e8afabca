"""Terraform at work outlives its command, is waited for, and is asked to stop before it is stopped."""

import json
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from flows.infra.interrupted import _blamed, import_id
from flows.infra.work import Work
from tests.workspace import ROOT

RUN = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell has its background jobs ignore it
from pathlib import Path
from flows.infra.work import Stopped, Work
try:
    sys.exit(Work(Path(sys.argv[1])).run("apply", ("/bin/sh", "-c", sys.argv[2]), os.environ))
except Stopped as stopped:
    sys.exit(f"Stopped: {stopped}")
"""


@pytest.fixture
def work(tmp_path) -> Work:
    return Work(tmp_path / "data")


def start(work: Work, script: str) -> "subprocess.Popen[str]":
    """A command whose Terraform is a shell script, once that has written `begun`."""
    command = subprocess.Popen(
        [sys.executable, "-c", RUN, str(work.data), f"echo begun; {script}"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    log = work.log("apply")
    while not (log.exists() and "begun" in log.read_text() and work.record.exists()):
        assert command.poll() is None, command.stdout.read()
        time.sleep(0.05)
    return command


def test_words_and_exit_code_are_passed_on(work):
    command = start(work, "sleep 1; echo ended; exit 3")
    said, _ = command.communicate(timeout=60)
    assert command.returncode == 3
    assert said == "begun\nended\n"
    assert not work.record.exists()
    assert work.wait(print) is None


def test_ctrl_c_lets_it_write_down_how_far_it_came(work):
    command = start(work, "trap 'echo written down; exit 1' INT; while :; do sleep 0.1; done")
    command.send_signal(signal.SIGINT)
    said, _ = command.communicate(timeout=60)
    assert "stopping: Terraform ends what it has begun" in said
    assert "written down" in said
    assert "Stopped: `terraform apply` was stopped" in said
    assert not work.record.exists()


def test_a_killed_command_leaves_it_at_work_and_the_next_one_waits(work, tmp_path):
    mark = tmp_path / "done"
    command = start(work, f"sleep 4; echo late; touch {mark}")
    command.kill()
    command.wait()
    told: list[str] = []
    began = work.wait(told.append)
    assert began is not None and abs(time.time() - began) < 600
    assert mark.exists()  # its end was waited for
    assert "an earlier `terraform apply` is still at work" in told[0]
    assert work.cut_off
    work.in_order()
    assert not work.cut_off


def test_what_a_killed_terraform_has_started_is_ended(work):
    command = start(work, "sleep 600 & wait")
    leader = psutil.Process(json.loads(work.record.read_text())["pid"])
    (child,) = leader.children()
    leader.kill()
    command.wait()
    assert child.is_running()
    assert work.wait(lambda line: None) is not None
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE
    assert work.cut_off


def test_only_what_is_there_already_is_imported():
    log = (
        "\x1b[31m│\x1b[0m Error: creating IAM Role (a): EntityAlreadyExists: Role with name a already exists.\n│ \n"
        '│   with module.access[0].aws_iam_role.account["stages"],\n│   on main.tf line 11\n'
        "│ Error: creating EKS Cluster (b): AccessDenied: not yours\n│ \n"
        "│   with module.cluster[0].aws_eks_cluster.this,\n"
    )
    assert _blamed(log) == {'module.access[0].aws_iam_role.account["stages"]'}


def test_names_become_the_ids_that_terraform_imports():
    """As the provider's documentation writes them."""
    group = {"cluster_name": "reelforge-dev", "node_group_name": "gpu"}
    assert import_id("aws_eks_node_group", group, "1", None) == "reelforge-dev:gpu"
    assert import_id("aws_budgets_budget", {"name": "monthly"}, "1", None) == "1:monthly"
    assert import_id("aws_s3_bucket", {"bucket": "b"}, "1", None) == "b"
    assert import_id("aws_vpc", {"cidr_block": "10.0.0.0/16"}, "1", None) is None
