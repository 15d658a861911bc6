"""The type of ``train.augment``: names of augmentations, or the two words it had at first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from regl_app.config.choices import AUGMENTATIONS


def augmentations(value: bool | str) -> tuple[str, ...]:
    """Return the names in ``value``, in their order; ``True`` is 'shift'.

    Raises:
        ValueError: one of them is unknown, or there twice.
    """
    if isinstance(value, bool):
        return ("shift",) if value else ()
    names = tuple(name.strip() for name in value.split(",")) if value.strip() else ()
    for place, name in enumerate(names):
        if name not in AUGMENTATIONS:
            raise ValueError(_refusal(value))
        if name in names[:place]:
            raise ValueError(
                f"train.augment must name each augmentation once, got {name!r} twice in {value!r}"
            )
    return names


def _refusal(value: Any) -> str:
    known = ", ".join(map(repr, AUGMENTATIONS))
    return (
        f"train.augment must be true, false or some of {known}, comma-separated, got {value!r} "
        "(try 'flip,crop')"
    )


@dataclass(frozen=True)
class Augmentations:
    """Annotates a key that says how training images are varied."""

    words: str = "`true`, `false`, or some of " + ", ".join(f"`{name}`" for name in AUGMENTATIONS)

    def __get_pydantic_core_schema__(self, _: Any, __: GetCoreSchemaHandler) -> CoreSchema:
        """Tell pydantic to check by ``augmentations``."""
        return core_schema.no_info_plain_validator_function(self._checked)

    def _checked(self, value: Any) -> bool | str:
        if not isinstance(value, bool | str):
            raise ValueError(_refusal(value))
        augmentations(value)
        return value
