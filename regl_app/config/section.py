"""What every group of keys is built on, and the marks that each key bears."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict
from pydantic.config import JsonDict

# What a key may change, marked at each: see config/identity.py.
RESULT: JsonDict = {"changes": "result"}


MACHINE: JsonDict = {"changes": "machine"}


VIEW: JsonDict = {"changes": "view"}


def hyphenated(name: str) -> str:
    """Return a field's name as it is written in a run's configuration."""
    return name.replace("_", "-")


class Section(BaseModel):
    """Base of every group of keys: frozen, no unknown keys, no silent type casts."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        alias_generator=hyphenated,
        populate_by_name=True,
        allow_inf_nan=False,
    )
