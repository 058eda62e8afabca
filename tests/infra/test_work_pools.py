"""What the Prefect workers start: Jobs made by the worker's own code from the templates of the pools."""

import asyncio
import json
import re

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


async def flow_run_job(pool: str, monkeypatch, **values) -> dict:
    """The Job of a flow run, made by the worker's own code from the pool's template."""
    from prefect.client.schemas.objects import FlowRun
    from prefect_kubernetes.worker import KubernetesWorkerJobConfiguration

    monkeypatch.setenv("IMAGE_CPU", "registry/cpu:1")
    monkeypatch.setenv("IMAGE_GPU", "registry/gpu:1")
    configuration = await KubernetesWorkerJobConfiguration.from_template_and_values(
        pool_template(pool), values, client=object()
    )
    run = FlowRun(flow_id="00000000-0000-0000-0000-000000000001", name="a-run")
    configuration.prepare_for_flow_run(run)
    assert configuration.namespace == NAMESPACE
    job = configuration.job_manifest
    for field in (
        "parallelism",
        "completions",
    ):  # the worker insists on them in the pod, where they mean nothing
        assert job["spec"]["template"]["spec"].pop(field) == 1
    return job


@pytest.mark.parametrize("pool", POOLS)
def test_a_flow_runs_job_is_valid_and_finds_what_it_names(pool, monkeypatch):
    job = asyncio.run(flow_run_job(pool, monkeypatch))
    validate(job)
    template = job["spec"]["template"]
    assert references(template) <= defined(render("prod/platform"))
    (container,) = template["spec"]["containers"]
    assert container["image"] == ("registry/gpu:1" if pool == "h100" else "registry/cpu:1")
    assert "prefect flow-run execute" in " ".join(container["args"])
    assert pool_labels(pool).items() <= template["metadata"]["labels"].items()
    assert ("nvidia.com/gpu" in container["resources"]["limits"]) == (pool == "h100")


def test_a_deployment_may_ask_for_more_and_set_variables(monkeypatch):
    job = asyncio.run(flow_run_job("cpu", monkeypatch, memory="64Gi", env={"A": "b"}))
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
def test_a_worker_writes_its_own_pools_template(pool):
    manifests = render("prod/platform")
    (worker,) = [
        m for m in of_kind(manifests, "Deployment") if m["metadata"]["name"] == f"prefect-worker-{pool}"
    ]
    spec = worker["spec"]["template"]["spec"]
    assert f"--base-job-template=/etc/work-pools/{pool}.json" in spec["initContainers"][0]["command"]
    assert spec["initContainers"][0]["command"][3] == pool
    assert f"--pool={pool}" in spec["containers"][0]["command"]
    (files,) = [m["data"] for m in of_kind(manifests, "ConfigMap") if f"{pool}.json" in m["data"]]
    assert json.loads(files[f"{pool}.json"]) == pool_template(pool)
