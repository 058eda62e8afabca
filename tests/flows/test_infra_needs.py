"""What a recipe needs of the cluster agrees with its plan, with what AWS charges and with what AWS sells."""

import json
import math
from pathlib import Path

import pytest
from typer.testing import CliRunner

from components.errors import UserError
from components.params import Params
from flows.cli.app import app
from flows.infra.cost import MACHINES, cost_lines, gpu_price
from flows.infra.needs import GIB, LUSTRE_GIB, NVME_GIB, Needs, needs_of
from flows.infra.wish import Wish, variables

ROOT = Path(__file__).parents[2]
ASKED = {"open_sora_1_2": "96xH100", "causal_5b": "8xH100"}


@pytest.fixture(scope="module", params=[pytest.param(name, marks=pytest.mark.slow) for name in ASKED])
def sized(request, tmp_path_factory) -> tuple[Needs, dict]:
    """Needs of a recipe, and the plan of it that `reelforge plan` writes."""
    target = tmp_path_factory.mktemp("plan") / "plan.json"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        asked = [request.param, "--gpus", ASKED[request.param], "--json", str(target)]
        assert CliRunner().invoke(app, ["plan", *asked], catch_exceptions=False).exit_code == 0
    params = Params.load(ROOT / f"recipes/{request.param}.yaml")
    return needs_of(params, ASKED[request.param], ROOT), json.loads(target.read_text())


def test_a_recipes_needs_are_those_of_its_plan_at_the_price_of_aws(sized):
    needs, plan = sized
    assert needs.hours == pytest.approx(sum(stage["hours"] for stage in plan["stages"]))
    assert needs.dollars == pytest.approx(plan["gpu_hours"] * MACHINES["p5.48xlarge"] / 8)
    kept = sum(stage["checkpoint_bytes"] * stage["checkpoints"] for stage in plan["stages"])
    latents = sum(each["bytes"] for each in plan["latents"])
    assert needs.shared_gib * GIB == pytest.approx(kept + latents)


def test_machines_and_disks_hold_what_the_recipe_makes(sized):
    needs, _ = sized
    assert needs.nodes == math.ceil(int(ASKED[needs.recipe].split("x")[0]) / 8)
    values = variables(Wish(region="us-west-2", budget=0, needs=needs), {})
    assert values["gpu_nodes"]["max"] == needs.nodes
    if needs.nodes == 1:  # its own disk is all that there is
        assert values["lustre"] is None
        assert needs.shared_gib < NVME_GIB
    else:
        assert values["lustre"]["storage_gib"] >= needs.shared_gib
        assert values["lustre"]["storage_gib"] % LUSTRE_GIB == 0  # what FSx sells


def test_fewer_machines_than_the_recipe_trains_on_are_refused(sized):
    needs, _ = sized
    with pytest.raises(
        UserError, match=rf"0 GPU nodes are too few: {needs.recipe} on .* {needs.nodes} machine"
    ):
        variables(Wish(region="us-west-2", budget=0, gpu_nodes=0, needs=needs), {})


def test_a_machine_alone_shares_nothing_until_its_disks_are_too_small():
    """A p5.48xlarge has eight disks of 3.84 TB: 28,610 GiB."""
    assert 8 * 3.84e12 / GIB > NVME_GIB
    needs = {"gpus": 8, "gpu": "H100", "hours": 1, "dollars": 1}
    assert Needs("a", **needs, shared_gib=27_000).lustre_gib is None
    assert Needs("a", **needs, shared_gib=29_000).lustre_gib == 13 * LUSTRE_GIB


def test_another_kind_of_gpu_brings_its_own_machines():
    h100 = Needs("a", gpus=8, gpu="H100", hours=1, dollars=1, shared_gib=1)
    h200 = Needs("a", gpus=8, gpu="H200", hours=1, dollars=1, shared_gib=1)
    before = variables(Wish(region="us-west-2", budget=0, needs=h100), {})
    after = variables(Wish(needs=h200), before)
    assert before["gpu_nodes"]["instance_type"] == "p5.48xlarge"
    assert after["gpu_nodes"]["instance_type"] == "p5e.48xlarge"


@pytest.mark.parametrize(
    ("gpus", "why"),
    [
        ("0xH100", "give a number and a kind"),
        ("8xA100", "H100 or H200, not A100"),
        ("8xA10", "unknown GPU A10"),
    ],
)
def test_gpus_that_cannot_be_had_are_refused_before_anything_is_planned(gpus, why):
    with pytest.raises(UserError, match=why):
        needs_of(Params.load(ROOT / "recipes/causal_5b.yaml"), gpus, ROOT)


def resource(kind: str, **values) -> dict:
    return {"mode": "managed", "type": kind, "values": values}


def test_the_bill_is_the_sum_of_what_runs():
    """By hand: 0.10 + 2 x 0.045 + 2 x 0.768 + 2 x 2 x 0.159, and 55.04 for each of at most two machines."""
    nodes = resource("aws_eks_node_group", instance_types=["m6i.4xlarge"], scaling_config=[{"min_size": 2}])
    database = resource("aws_db_instance", instance_class="db.m6g.large", multi_az=True)
    children = [
        {
            "resources": [
                resource("aws_eks_cluster"),
                nodes,
                resource("aws_eks_node_group", node_group_name="gpu"),
            ]
        },
        {"resources": [resource("aws_nat_gateway"), resource("aws_nat_gateway"), database, database]},
    ]
    plan = {
        "planned_values": {"root_module": {"child_modules": children}},
        "variables": {"gpu_nodes": {"value": {"instance_type": "p5.48xlarge", "max": 2, "purchase": "spot"}}},
    }
    always, gpus = cost_lines(plan)
    assert "2.36 dollars an hour always (1,724 a month)" in always
    assert "55.04 an hour" in gpus
    assert "spot is less" in gpus
    assert "at most 2 run: 110.08" in gpus
    assert gpu_price("p5.48xlarge") * 8 == MACHINES["p5.48xlarge"]


def test_a_machine_without_a_known_price_is_named():
    nodes = resource("aws_eks_node_group", instance_types=["z9.huge"], scaling_config=[{"min_size": 1}])
    children = [{"resources": [resource("aws_eks_cluster"), nodes]}]
    plan = {"planned_values": {"root_module": {"child_modules": children}}, "variables": {}}
    (line,) = cost_lines(plan)
    assert "without z9.huge, whose price is not known here" in line
