"""Kubernetes' own schemas, for the version that Terraform starts."""

import re

import kubernetes_validate

from tests.infra.rendered import Manifest, terraform


def kubernetes_version() -> str:
    """The version that Terraform asks for where nothing else is said."""
    found = re.search(r'variable "kubernetes_version" \{[^}]*?default\s*=\s*"([\d.]+)"', terraform())
    assert found
    return found[1]


VERSION = kubernetes_version()


def validate(manifest: Manifest) -> None:
    kubernetes_validate.validate(manifest, VERSION, strict=True)


def validate_pod(template: Manifest) -> None:
    validate({"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "x"}, "template": template})
