"""What the Prefect workers start: Jobs made by the worker's own code from the templates of the pools."""

import asyncio
import json
import re
import subprocess

import pytest

from tests.infra.rendered import (
    NAMESPACE,
    POOLS,
    defined,
    of_kind,
    pool_labels,
    pool_template,
    references,
    render,
)
from tests.infra.schemas import validate


async def flow_run_job(pool: str, **values) -> dict:
    """The Job of a flow run, made by the worker's own code from the pool's template."""
    from prefect.client.schemas.objects import FlowRun
    from prefect_kubernetes.worker import KubernetesWorkerJobConfiguration

    configuration = await KubernetesWorkerJobConfiguration.from_template_and_values(
        pool_template(pool), values, client=object()
    )
    run = FlowRun(flow_id="00000000-0000-0000-0000-000000000001", name="a-run")
    configuration.prepare_for_flow_run(run)
    assert configuration.namespace == NAMESPACE
    job = configuration.job_manifest
    # the worker insists on them in the pod, where they mean nothing
    for field in ("parallelism", "completions"):
        assert job["spec"]["template"]["spec"].pop(field) == 1
    return job


@pytest.mark.parametrize("pool", POOLS)
def test_a_flow_runs_job_is_valid_and_finds_what_it_names(pool):
    job = asyncio.run(flow_run_job(pool))
    validate(job)
    template = job["spec"]["template"]
    assert references(template) <= defined(render("prod/platform"))
    (container,) = template["spec"]["containers"]
    assert "prefect flow-run execute" in " ".join(container["args"])
    assert pool_labels(pool).items() <= template["metadata"]["labels"].items()
    assert ("nvidia.com/gpu" in container["resources"]["limits"]) == (pool == "h100")


def test_a_deployment_may_ask_for_more_and_set_variables():
    job = asyncio.run(flow_run_job("cpu", memory="64Gi", env={"A": "b"}))
    validate(job)
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert container["resources"]["limits"]["memory"] == "64Gi"
    assert {"name": "A", "value": "b"} in container["env"]


@pytest.mark.parametrize("pool", POOLS)
def test_every_variable_of_a_template_is_declared_and_used(pool):
    template = pool_template(pool)
    used = set(re.findall(r"\{\{ (\w+) \}\}", json.dumps(template["job_configuration"])))
    assert used == set(template["variables"]["properties"])


@pytest.mark.parametrize("pool", POOLS)
def test_the_server_takes_the_template(pool):
    """By the rules with which it judges a new work pool."""
    from prefect.server.schemas.actions import WorkPoolCreate

    WorkPoolCreate(name=pool, type="kubernetes", base_job_template=pool_template(pool))
    wrong = json.loads(json.dumps(pool_template(pool)).replace("{{ image }}", "{{ imagge }}"))
    with pytest.raises(ValueError, match="imagge"):
        WorkPoolCreate(name=pool, type="kubernetes", base_job_template=wrong)


@pytest.mark.parametrize("pool", POOLS)
def test_a_worker_writes_its_own_pools_template_with_the_image_of_the_environment(pool, tmp_path):
    """The script of the manifest, run by a shell, up to the command that sends the file."""
    manifests = render("prod/platform")
    (worker,) = [
        m for m in of_kind(manifests, "Deployment") if m["metadata"]["name"] == f"prefect-worker-{pool}"
    ]
    spec = worker["spec"]["template"]["spec"]
    (files,) = [m["data"] for m in of_kind(manifests, "ConfigMap") if f"{pool}.json" in m["data"]]
    (tmp_path / f"{pool}.json").write_text(files[f"{pool}.json"])
    container = spec["initContainers"][0]
    script = container["args"][0].replace("/tmp/", f"{tmp_path}/made-")
    script = script.replace("/etc/work-pools", str(tmp_path))
    sent = subprocess.run(
        [*container["command"], script.replace("exec prefect", "echo")],
        check=True,
        capture_output=True,
        text=True,
        env={"IMAGE": "registry/image:1", "PATH": "/usr/bin:/bin"},
    ).stdout.split()
    assert sent[:3] == ["work-pool", "create", pool]
    made = json.loads((tmp_path / f"made-{pool}.json").read_text())
    assert f"--base-job-template={tmp_path}/made-{pool}.json" in sent
    assert made["variables"]["properties"]["image"].pop("default") == "registry/image:1"
    wanted = pool_template(pool)
    del wanted["variables"]["properties"]["image"]["default"]
    assert made == wanted
    assert f"--pool={pool}" in spec["containers"][0]["command"]
    (variable,) = [v for v in container["env"] if v["name"] == "IMAGE"]
    kind = {"cpu": "IMAGE_CPU", "h100": "IMAGE_GPU"}[pool]
    assert variable["valueFrom"]["configMapKeyRef"]["key"] == kind
