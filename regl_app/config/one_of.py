"""The type of a key that names a choice of a table."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, PydanticKnownError, core_schema


def _nothing() -> Iterable[str]:
    return ()


def _fine(_: str) -> str | None:
    return None


@dataclass(frozen=True)
class OneOf:
    """Annotates a text that must be in ``names``, or in what ``more`` returns when it is checked.

    ``refuse`` returns what is wrong with a name that is there, or None. A wrong value reads as
    that of a ``Literal``.
    """

    names: tuple[str, ...]
    more: Callable[[], Iterable[str]] = _nothing
    refuse: Callable[[str], str | None] = _fine

    @classmethod
    def of(cls, table: Iterable[str], *before: str) -> OneOf:
        """Return the type of the names of ``table``, with others, such as 'auto', before them."""
        return cls((*before, *table))

    def __get_pydantic_core_schema__(self, _: Any, __: GetCoreSchemaHandler) -> CoreSchema:
        """Tell pydantic to check by ``self``."""
        return core_schema.no_info_plain_validator_function(self._checked)

    def _checked(self, value: Any) -> str:
        allowed = (*self.names, *self.more())
        if not isinstance(value, str) or value not in allowed:
            *first, last = map(repr, allowed)
            expected = f"{', '.join(first)} or {last}" if first else last
            raise PydanticKnownError("literal_error", {"expected": expected})
        if problem := self.refuse(value):
            raise ValueError(problem)
        return value
