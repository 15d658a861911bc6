"""What ``model.name`` may be: a classifier of ours, of a library, or a class by dotted name."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from regl_app.config.choices import MODELS

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler
    from pydantic_core import CoreSchema

LIBRARIES = ("torchvision", "timm")
_OWN = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
_LISTED = re.compile(r"(torchvision|timm):[\w.-]+")


def library_of(name: str) -> str:
    """Return the library whose model ``name`` is: 'torchvision', 'timm', or '' if it is of none."""
    library, colon, _ = name.partition(":")
    return library if colon and library in LIBRARIES else ""


def is_own_module(name: str) -> bool:
    """Return whether ``name`` is a dotted name of code that is neither ours nor a library's."""
    return ":" in name and not library_of(name)


@dataclass(frozen=True)
class ModelName:
    """Annotates a text that names a classifier; whether a library has it shows when it is made."""

    words: str = ", ".join(
        (
            *(f"`{name}`" for name in MODELS),
            *(f"`{library}:NAME`" for library in LIBRARIES),
            "`package.module:Class`",
        )
    )

    def __get_pydantic_core_schema__(self, _: Any, __: GetCoreSchemaHandler) -> CoreSchema:
        """Tell pydantic to check by ``self``."""
        from pydantic_core import core_schema

        return core_schema.no_info_plain_validator_function(self._checked)

    def _checked(self, value: Any) -> str:
        if isinstance(value, str):
            pattern = _LISTED if library_of(value) else _OWN
            if value in MODELS or pattern.fullmatch(value):
                return value
        hint = ""
        if isinstance(value, str) and re.fullmatch(r"[A-Za-z]\w+", value):
            hint = f" (try 'torchvision:{value}')"
        raise ValueError(
            f"model.name must be one of {', '.join(map(repr, MODELS))}, 'torchvision:NAME', "
            f"'timm:NAME' or 'package.module:Class', got {value!r}{hint}"
        )
