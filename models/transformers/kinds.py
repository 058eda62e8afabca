"""Look up what a configuration names: a `kind` from a table in the code, the other keys as its options."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

Built = TypeVar("Built")


def of_kind(
    kinds: Mapping[str, Callable[..., Built]], config: Mapping[str, Any], what: str, *arguments: Any
) -> Built:
    """What `config["kind"]` builds from the arguments and the other keys of `config`.

    Raises `ValueError` listing the kinds, and for options that the kind does not have.
    """
    options = {key: value for key, value in config.items() if key != "kind"}
    kind = str(config.get("kind"))
    if kind not in kinds:
        raise ValueError(f"there is no {what} of kind {kind!r}; kinds: {', '.join(kinds)}")
    try:
        return kinds[kind](*arguments, **options)
    except TypeError as error:
        raise ValueError(f"{what} of kind {kind!r}: {error}") from None
