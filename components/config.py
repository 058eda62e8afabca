"""The base of every section of `params.yaml`: frozen, and an unknown key is an error."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """Unknown keys are refused, so that a misspelt parameter can never be a silent default."""

    model_config = ConfigDict(frozen=True, extra="forbid")
