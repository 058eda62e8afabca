"""The manifests as `kubectl apply -k` would send them."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
KUBERNETES = ROOT / "infra/kubernetes"
ENVIRONMENTS = ("dev", "prod")
PARTS = ("platform", "training", "shell")
OVERLAYS = [f"{environment}/{part}" for environment in ENVIRONMENTS for part in PARTS]
FROM_ELSEWHERE = {"system-node-critical", "system-cluster-critical"}  # priority classes of every cluster
POOLS = ("cpu", "h100")
NAMESPACE = "reelforge"
Manifest = dict[str, Any]


@cache
def render(overlay: str) -> tuple[Manifest, ...]:
    """All objects of an overlay, such as `prod/platform`."""
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed; it renders the overlays")
    text = subprocess.run(
        ["kubectl", "kustomize", str(KUBERNETES / "overlays" / overlay)],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    ).stdout
    return tuple(yaml.safe_load_all(text))


@cache
def terraform() -> str:
    """All of our Terraform, as text: the two must agree on names."""
    return "\n".join(path.read_text() for path in sorted((ROOT / "infra/terraform").rglob("*.tf")))


def environment(name: str) -> tuple[Manifest, ...]:
    """What lies in the cluster while a gang trains."""
    return tuple(manifest for part in PARTS for manifest in render(f"{name}/{part}"))


def of_kind(manifests: tuple[Manifest, ...], kind: str) -> list[Manifest]:
    return [manifest for manifest in manifests if manifest["kind"] == kind]


def pods(manifests: tuple[Manifest, ...]) -> Iterator[tuple[str, str, Manifest]]:
    """(Name, namespace, pod template) of everything that makes pods."""
    for manifest in manifests:
        name, spec = manifest["metadata"]["name"], manifest.get("spec", {})
        space = manifest["metadata"].get("namespace", "")
        if manifest["kind"] in {"Deployment", "DaemonSet", "Job"}:
            yield name, space, spec["template"]
        elif manifest["kind"] == "Pod":
            yield name, space, manifest
        elif manifest["kind"] == "RayCluster":
            yield f"{name} head", space, spec["headGroupSpec"]["template"]
            for group in spec["workerGroupSpecs"]:
                yield f"{name} {group['groupName']}", space, group["template"]


def containers(template: Manifest) -> list[Manifest]:
    return [*template["spec"].get("initContainers", []), *template["spec"]["containers"]]


def platform_env(name: str) -> Path:
    """The values of an environment that Terraform knows."""
    return KUBERNETES / "overlays" / name / "values/platform.env"


def pool_template(pool: str) -> Manifest:
    """What a Prefect work pool makes Jobs from."""
    template: Manifest = json.loads((KUBERNETES / f"base/platform/work-pools/{pool}.json").read_text())
    return template


def pool_labels(pool: str) -> dict[str, str]:
    labels: dict[str, str] = pool_template(pool)["job_configuration"]["job_manifest"]["spec"]["template"][
        "metadata"
    ]["labels"]
    return labels


def references(template: Manifest) -> set[tuple[str, str]]:
    """(Kind, name) of what a pod needs to be there before it starts."""
    spec = template["spec"]
    found = {("ServiceAccount", spec["serviceAccountName"])} if "serviceAccountName" in spec else set()
    found |= {("PriorityClass", spec["priorityClassName"])}
    for volume in spec.get("volumes", []):
        if "configMap" in volume:
            found.add(("ConfigMap", volume["configMap"]["name"]))
        if "persistentVolumeClaim" in volume:
            found.add(("PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"]))
    for container in containers(template):
        for variable in container.get("env", []):
            source = variable.get("valueFrom", {})
            if "configMapKeyRef" in source:
                found.add(("ConfigMap", source["configMapKeyRef"]["name"]))
            if "secretKeyRef" in source:
                found.add(("Secret", source["secretKeyRef"]["name"]))
    return found


def defined(manifests: tuple[Manifest, ...]) -> set[tuple[str, str]]:
    secrets = {("Secret", m["spec"]["target"]["name"]) for m in of_kind(manifests, "ExternalSecret")}
    classes = {("PriorityClass", name) for name in FROM_ELSEWHERE}
    return {(m["kind"], m["metadata"]["name"]) for m in manifests} | secrets | classes
