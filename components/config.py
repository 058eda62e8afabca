"""The base of every section of `params.yaml`: frozen, and an unknown key is an error."""

from pydantic import BaseModel, ConfigDict

HIDDEN_TAG = (
    "<kind>"  # begins a tag of a discriminated union, which is no key of the file: left out of error paths
)


class Section(BaseModel):
    """Unknown keys are refused, so that a misspelt parameter can never be a silent default."""

    model_config = ConfigDict(frozen=True, extra="forbid")
