"""What a dotted name stands for, imported when it is first asked for."""

from __future__ import annotations

from importlib import import_module
from typing import Any


def resolve(dotted: str) -> Any:
    """Return the attribute that ``package.module:attribute`` names.

    Raises:
        ValueError: ``dotted`` is no such name.
        ImportError: the module cannot be imported.
        AttributeError: it has no such attribute.
    """
    module, colon, attribute = dotted.partition(":")
    if not (module and colon and attribute):
        raise ValueError(f"expected package.module:attribute, got {dotted!r}")
    return getattr(import_module(module), attribute)
