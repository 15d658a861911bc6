"""The type of a number that may be left to what fits the checkpoint, or the strategy."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

AUTO = "auto"
NOT_YET: Any = AUTO
"""What such a number is until something else is known: a default, and to compare with."""


@dataclass(frozen=True)
class OrAuto:
    """Annotates a key that may say 'auto' until the checkpoint is known, or the strategy.

    Where it is the checkpoint, the field's own default is what fits the bundled generator, and a
    run's is 'auto'. Whoever reads the number of another checkpoint's run asks
    ``generator.fitting.fitted`` first. Where it is the strategy, the field's default is 'auto'.
    """

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Tell pydantic to let 'auto' pass."""
        return core_schema.no_info_wrap_validator_function(
            lambda value, check: value if value == AUTO else check(value),
            handler(source),
            serialization=core_schema.plain_serializer_function_ser_schema(lambda value: value),
        )


def may_be_auto(metadata: Iterable[Any]) -> bool:
    """Return whether a field with such metadata may say 'auto'."""
    return any(isinstance(each, OrAuto) for each in metadata)
