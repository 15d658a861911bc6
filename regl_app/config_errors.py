"""Pydantic's errors in words a user can act on."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from pydantic import ValidationError

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


def explain(error: ValidationError, known: Sequence[str]) -> str:
    """Return one line per problem: key, value seen, what is allowed, the likely remedy."""
    lines = []
    for item in error.errors():
        key = ".".join(str(part) for part in item["loc"])
        seen, kind, context = item["input"], item["type"], item.get("ctx", {})
        if kind == "extra_forbidden":
            close = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
            hint = f"did you mean {close[0]!r}?" if close else f"known keys: {', '.join(known)}"
            lines.append(f"unknown key {key!r} (value {seen!r}): {hint}")
        elif kind in _BOUNDS:
            sign, name = _BOUNDS[kind]
            lines.append(f"{key} must be {sign} {context[name]}, got {seen!r}")
        elif kind == "literal_error":
            lines.append(f"{key} must be one of {context['expected']}, got {seen!r}")
        elif kind in _TYPES:
            lines.append(f"{key} must be {_TYPES[kind]}, got {seen!r} ({type(seen).__name__})")
        elif kind == "value_error":
            lines.append(str(context["error"]))
        elif kind == "model_type":
            lines.append(f"{key} is a group of keys, got the single value {seen!r}")
        else:
            lines.append(f"{key}: {item['msg']}, got {seen!r}")
    return "invalid run configuration:\n  " + "\n  ".join(lines)
