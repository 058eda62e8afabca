"""Manifests: valid for the Kubernetes that Terraform starts, and true to each other."""

import json
import re
import subprocess
from fnmatch import fnmatch

import kubernetes_validate
import pytest
import yaml

from components.preflight.config import PreflightConfig
from tests.infra.rendered import (
    ENVIRONMENTS,
    NAMESPACE,
    OVERLAYS,
    POOLS,
    ROOT,
    containers,
    defined,
    environment,
    of_kind,
    platform_env,
    pods,
    pool_labels,
    references,
    render,
    terraform,
)
from tests.infra.schemas import validate, validate_pod

OPERATORS = {"ExternalSecret", "RayCluster", "SecretStore"}  # kinds that are not Kubernetes' own
RAY_VALUES = {  # fields and types of ray.io/v1, kuberay ray-operator/apis/ray/v1/raycluster_types.go
    "spec": {
        "rayVersion": str,
        "enableInTreeAutoscaling": bool,
        "autoscalerOptions": dict,
        "headGroupSpec": dict,
        "workerGroupSpecs": list,
    },
    "headGroupSpec": {"serviceType": str, "rayStartParams": dict, "template": dict},
    "workerGroupSpec": {
        "groupName": str,
        "replicas": int,
        "minReplicas": int,
        "maxReplicas": int,
        "rayStartParams": dict,
        "template": dict,
    },
    "autoscalerOptions": {
        "idleTimeoutSeconds": int,
        "upscalingMode": str,
        "resources": dict,
        "securityContext": dict,
    },
}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_manifests_are_valid(overlay):
    manifests = render(overlay)
    assert manifests
    for manifest in manifests:
        if manifest["kind"] not in OPERATORS:
            validate(manifest)


def test_the_validator_refuses_a_misspelt_field():
    template = next(template for name, _, template in pods(render("dev/platform")) if name == "mlflow")
    validate_pod(template)
    wrong = json.loads(json.dumps(template))
    wrong["spec"]["containers"][0]["volumeMount"] = wrong["spec"]["containers"][0].pop("volumeMounts")
    with pytest.raises(kubernetes_validate.ValidationError):
        validate_pod(wrong)


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_the_ray_cluster_has_the_operators_fields_and_valid_pods(name):
    (cluster,) = of_kind(environment(name), "RayCluster")
    spec = cluster["spec"]
    parts = [
        ("spec", spec),
        ("autoscalerOptions", spec["autoscalerOptions"]),
        ("headGroupSpec", spec["headGroupSpec"]),
        *(("workerGroupSpec", group) for group in spec["workerGroupSpecs"]),
    ]
    for part, found in parts:
        wanted = RAY_VALUES[part]
        assert set(found) <= set(wanted), part
        assert all(isinstance(value, wanted[key]) for key, value in found.items())
    for group in [spec["headGroupSpec"], *spec["workerGroupSpecs"]]:
        validate_pod(group["template"])
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())
    assert all(g["minReplicas"] <= g["replicas"] <= g["maxReplicas"] for g in spec["workerGroupSpecs"])


def test_ray_in_the_cluster_is_the_ray_that_is_installed():
    (cluster,) = of_kind(render("prod/platform"), "RayCluster")
    assert f"ray=={cluster['spec']['rayVersion']}" in (ROOT / "constraints.txt").read_text().splitlines()


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_what_is_deleted_after_use_takes_nothing_of_the_platform_along(name):
    """`kubectl delete -k` of a training run must not delete what other pods read."""

    def identities(part: str) -> set[tuple[str, str]]:
        return {(m["kind"], m["metadata"]["name"]) for m in render(f"{name}/{part}")}

    assert not identities("platform") & (identities("training") | identities("shell"))


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_what_pods_refer_to_exists(name):
    manifests = environment(name)
    for pod, _, template in pods(manifests):
        assert references(template) <= defined(manifests), pod


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_keys_that_pods_read_are_in_their_maps_and_secrets(name):
    manifests = environment(name)
    keys = {m["metadata"]["name"]: set(m["data"]) for m in of_kind(manifests, "ConfigMap")}
    for manifest in of_kind(manifests, "ExternalSecret"):
        keys[manifest["spec"]["target"]["name"]] = {entry["secretKey"] for entry in manifest["spec"]["data"]}
    for pod, _, template in pods(manifests):
        for variable in (v for container in containers(template) for v in container.get("env", [])):
            source = variable.get("valueFrom", {})
            reference = source.get("configMapKeyRef") or source.get("secretKeyRef")
            if reference:
                assert reference["key"] in keys[reference["name"]], (pod, variable)


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_variables_in_commands_are_set_before_they_are_used(name):
    """Kubernetes leaves $(NAME) as it is where NAME is not set, or is set further down."""
    for pod, _, template in pods(environment(name)):
        for container in containers(template):
            known: set[str] = set()
            for variable in container.get("env", []):
                assert set(re.findall(r"\$\((\w+)\)", variable.get("value", ""))) <= known, pod
                known.add(variable["name"])
            words = " ".join([*container.get("command", []), *container.get("args", [])])
            if container.get("command", [""])[0] != "/bin/sh":
                assert set(re.findall(r"\$\((\w+)\)", words)) <= known, pod


def test_secret_stores_of_external_secrets_exist():
    manifests = render("prod/platform")
    stores = {m["metadata"]["name"]: m for m in of_kind(manifests, "SecretStore")}
    accounts = {m["metadata"]["name"] for m in of_kind(manifests, "ServiceAccount")}
    for secret in of_kind(manifests, "ExternalSecret"):
        store = stores[secret["spec"]["secretStoreRef"]["name"]]
        assert store["spec"]["provider"]["aws"]["auth"]["jwt"]["serviceAccountRef"]["name"] in accounts


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_selectors_find_pods(name):
    manifests = environment(name)
    labels = [(space, template["metadata"]["labels"]) for _, space, template in pods(manifests)]
    labels += [(NAMESPACE, pool_labels(pool)) for pool in POOLS]

    def found(space: str, wanted: dict) -> bool:
        return any(space == where and wanted.items() <= have.items() for where, have in labels)

    for manifest in manifests:
        kind, where, spec = (
            manifest["kind"],
            manifest["metadata"].get("namespace", ""),
            manifest.get("spec", {}),
        )
        if kind in {"Deployment", "DaemonSet"}:
            assert spec["selector"]["matchLabels"].items() <= spec["template"]["metadata"]["labels"].items()
        elif kind == "Service":
            assert found(where, spec["selector"]), manifest["metadata"]["name"]
        elif kind == "PodDisruptionBudget":
            assert found(where, spec["selector"]["matchLabels"]), manifest["metadata"]["name"]
        elif kind == "NetworkPolicy":
            assert found(where, spec["podSelector"].get("matchLabels", {})), manifest["metadata"]["name"]
            peers = [p for side, key in (("ingress", "from"), ("egress", "to")) for rule in spec.get(side, [])
                     for p in rule.get(key, [])]  # fmt: skip
            for peer in peers:
                if "podSelector" in peer and "namespaceSelector" not in peer:
                    assert found(where, peer["podSelector"]["matchLabels"]), manifest["metadata"]["name"]


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_services_and_probes_name_ports_that_exist(name):
    manifests = environment(name)
    templates = [(space, template) for _, space, template in pods(manifests)]
    for service in of_kind(manifests, "Service"):
        for port in service["spec"]["ports"]:
            target = port.get("targetPort")
            if isinstance(target, str):
                wanted = service["spec"]["selector"].items()
                (template,) = [t for _, t in templates if wanted <= t["metadata"]["labels"].items()]
                assert target in {p["name"] for c in containers(template) for p in c.get("ports", [])}
    for _, template in templates:
        for container in containers(template):
            names = {port["name"] for port in container.get("ports", [])}
            for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                if probe in container:
                    assert container[probe]["httpGet"]["port"] in names


def test_the_namespace_denies_by_default():
    policies = of_kind(render("prod/platform"), "NetworkPolicy")
    (deny,) = [p for p in policies if p["metadata"]["name"] == "deny-all"]
    assert deny["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_pods_meet_the_restricted_standard(name):
    """https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted, and a root that is read-only."""
    for pod, space, template in pods(environment(name)):
        spec = template["spec"]
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, pod
        for container in containers(template):
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False, pod
            assert context["capabilities"] == {"drop": ["ALL"]}, pod
            assert context["readOnlyRootFilesystem"] is True, pod
            assert not context.get("privileged"), pod
        if space == NAMESPACE:
            assert spec["securityContext"]["runAsNonRoot"] is True
            assert spec["securityContext"]["runAsUser"] > 0
            assert not any("hostPath" in volume for volume in spec.get("volumes", [])), pod
            assert not spec.get("hostNetwork"), pod


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_every_container_asks_for_what_it_needs_and_has_a_place_for_its_mounts(name):
    for pod, _, template in pods(environment(name)):
        volumes = {volume["name"] for volume in template["spec"].get("volumes", [])}
        for container in containers(template):
            assert {"cpu", "memory"} <= set(container["resources"]["requests"]), pod
            assert "memory" in container["resources"]["limits"], pod
            assert {mount["name"] for mount in container.get("volumeMounts", [])} <= volumes, pod


def texts(node: object) -> list[str]:
    """All words of a manifest but names of variables and keys of the maps they are read from."""
    if isinstance(node, str):
        return [node]
    if isinstance(node, dict):
        named = {"name"} if "value" in node or "valueFrom" in node else set()
        parts = [value for key, value in node.items() if key not in named | {"configMapKeyRef"}]
    else:
        parts = node if isinstance(node, list) else []
    return [text for part in parts for text in texts(part)]


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_no_placeholder_and_no_secret_is_left(name):
    values = dict(line.split("=", 1) for line in (platform_env(name)).read_text().splitlines())
    for manifest in environment(name):
        assert manifest["kind"] != "Secret"
        assert not set(texts(manifest)) & set(values), manifest["metadata"]["name"]
        images = re.findall(r"image: (\S+)", yaml.safe_dump(manifest))
        assert all(re.search(r":v?\d[\w.]*$", image) for image in images), images


# ---- the gang


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_a_gang_has_one_size_and_the_preflight_gates_it(name):
    (job,) = of_kind(render(f"{name}/training"), "Job")
    spec, pod = job["spec"], job["spec"]["template"]["spec"]
    (preflight,), (train,) = pod["initContainers"], pod["containers"]
    sizes = {spec["parallelism"], spec["completions"]}
    for container in (preflight, train):
        sizes |= {int(v["value"]) for v in container["env"] if v["name"] == "NUM_NODES"}
    assert len(sizes) == 1
    assert (preflight["name"], preflight["image"]) == ("preflight", train["image"])
    assert preflight["resources"] == train["resources"]  # measured with what will train
    assert preflight["env"] == train["env"]
    assert preflight["args"][:6] == train["args"][:6]  # the same rendezvous
    (service,) = of_kind(render(f"{name}/training"), "Service")
    assert service["spec"]["publishNotReadyAddresses"] is True
    assert f"--master-addr={job['metadata']['name']}-0.{pod['subdomain']}" in train["args"]
    assert pod["subdomain"] == service["metadata"]["name"]


def test_the_thresholds_are_ones_that_the_preflight_reads():
    (values,) = [
        m["data"] for m in of_kind(render("prod/training"), "ConfigMap") if "preflight.yaml" in m["data"]
    ]
    config = PreflightConfig.model_validate(yaml.safe_load(values["preflight.yaml"]))
    (job,) = of_kind(render("prod/training"), "Job")
    container = job["spec"]["template"]["spec"]["initContainers"][0]
    assert config.gpu.per_node == container["resources"]["limits"]["nvidia.com/gpu"]
    assert f"--nproc-per-node={config.gpu.per_node}" in container["args"]
    assert config.storage.place in {mount["mountPath"] for mount in container["volumeMounts"]}


def test_a_gpu_pod_asks_for_every_adapter_that_terraform_attaches():
    adapters = int(re.search(r'"p5\.48xlarge"\s*=\s*(\d+)', terraform())[1])
    asking = [
        container["resources"]
        for _, _, template in pods(environment("prod"))
        for container in containers(template)
        if "nvidia.com/gpu" in container["resources"].get("limits", {})
    ]
    assert len(asking) == 3  # Ray's group, the preflight, the training
    for resources in asking:
        assert resources["requests"]["vpc.amazonaws.com/efa"] == adapters
        assert resources["limits"]["hugepages-2Mi"] == resources["requests"]["hugepages-2Mi"]


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_pods_go_to_nodes_that_terraform_makes(name):
    nodes = set(re.findall(r'"reelforge\.io/nodes"\s*= "(\w+)"', terraform()))
    assert nodes == {"cpu", "gpu"}
    for pod, _, template in pods(environment(name)):
        assert template["spec"]["nodeSelector"]["reelforge.io/nodes"] in nodes, pod
        keys = {toleration["key"] for toleration in template["spec"].get("tolerations", [])}
        on_gpu = template["spec"]["nodeSelector"]["reelforge.io/nodes"] == "gpu"
        assert ("nvidia.com/gpu" in keys) == on_gpu, pod


# ---- services


def test_mlflow_answers_to_the_address_that_the_profile_gives():
    (mlflow,) = [
        m for m in of_kind(render("prod/platform"), "Deployment") if m["metadata"]["name"] == "mlflow"
    ]
    command = mlflow["spec"]["template"]["spec"]["containers"][0]["command"]
    hosts = next(word for word in command if word.startswith("--allowed-hosts=")).split("=", 1)[1].split(",")
    address = re.search(r'mlflow\s+= "http://([^"/]+)', terraform())[1].replace(
        "${local.namespace}", NAMESPACE
    )
    for host in (address, "mlflow:5000", "localhost:5000"):
        assert any(fnmatch(host, pattern) for pattern in hosts), host


@pytest.mark.parametrize("password", ["plain", "a%40b%25c%21"])
def test_the_sign_in_file_of_mlflow_is_read_back_as_it_was_meant(password, tmp_path, monkeypatch):
    """The script of the manifest, run by a shell, and read by MLflow itself."""
    from mlflow.server.auth.config import read_auth_config

    (mlflow,) = [
        m for m in of_kind(render("prod/platform"), "Deployment") if m["metadata"]["name"] == "mlflow"
    ]
    container = mlflow["spec"]["template"]["spec"]["initContainers"][0]
    script = container["args"][0].replace("/run/mlflow", str(tmp_path))
    uri = f"postgresql+psycopg://mlflow:{password}@database:5432/mlflow?sslmode=require"
    subprocess.run(
        [*container["command"], script], check=True, env={"DATABASE": uri, "PATH": "/usr/bin:/bin"}
    )
    monkeypatch.setenv("MLFLOW_AUTH_CONFIG_PATH", str(tmp_path / "sign-in.ini"))
    config = read_auth_config()
    assert (config.database_uri, config.admin_username, config.default_permission) == (uri, "admin", "READ")
