"""Pydantic's errors in words a user can act on."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence

from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

_BOUNDS = {
    "greater_than": (">", "gt"),
    "greater_than_equal": (">=", "ge"),
    "less_than": ("<", "lt"),
    "less_than_equal": ("<=", "le"),
}
_TYPES = {
    "int_type": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "string_type": "a text in quotes",
}


def explain(error: ValidationError, fields: Mapping[str, FieldInfo]) -> str:
    """Return one line per problem: key, value seen, what is allowed, the likely remedy.

    ``fields`` are all keys there are, with their descriptions.
    """
    return "invalid run configuration:\n  " + "\n  ".join(
        _line(item, fields) for item in error.errors()
    )


def _line(item: ErrorDetails, fields: Mapping[str, FieldInfo]) -> str:
    key = ".".join(str(part) for part in item["loc"])
    seen, kind, context = item["input"], item["type"], item.get("ctx", {})
    if kind == "extra_forbidden":
        return f"unknown key {key!r} (value {seen!r}): {_nearest(key, list(fields))}"
    if kind in _BOUNDS:
        sign, name = _BOUNDS[kind]
        return f"{key} must be {sign} {context[name]:g}, got {seen!r}{_meaning(key, fields)}"
    if kind == "literal_error":
        return f"{key} must be one of {context['expected']}, got {seen!r}"
    if kind in _TYPES:
        kind_seen = type(seen).__name__
        return f"{key} must be {_TYPES[kind]}, got {seen!r} ({kind_seen}){_meaning(key, fields)}"
    if kind == "value_error":
        return str(context["error"])
    if kind == "model_type":
        return f"{key} is a group of keys, got the single value {seen!r}"
    return f"{key}: {item['msg']}, got {seen!r}"


def _meaning(key: str, fields: Mapping[str, FieldInfo]) -> str:
    field = fields.get(key)
    return f" (default {field.default!r}: {field.description})" if field else ""


def _nearest(key: str, known: Sequence[str]) -> str:
    by_leaf = {name.rpartition(".")[2]: name for name in reversed(known)}
    wanted = key.replace("_", "-").lower()
    close = difflib.get_close_matches(wanted, known, n=1, cutoff=0.7)
    leaf = difflib.get_close_matches(wanted.rpartition(".")[2], by_leaf, n=1, cutoff=0.7)
    if close or leaf:
        return f"did you mean {(close or [by_leaf[leaf[0]]])[0]!r}?"
    group = key.partition(".")[0] + "."
    inside = [name for name in known if name.startswith(group)]
    return f"known keys: {', '.join(inside or known)}"
