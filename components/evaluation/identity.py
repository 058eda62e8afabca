"""The name under which a score may be compared: two scores share it where they were measured in the same way."""

from collections.abc import Mapping
from typing import Any

from components.artifacts import sha256_of_json


def identity(metric: str, facts: Mapping[str, Any]) -> str:
    """`metric@` and a digest of everything that decides its value besides the model."""
    return f"{metric}@{sha256_of_json(facts)[:16]}"
