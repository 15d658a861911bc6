"""A guess at what was meant by a name that is not there."""

from __future__ import annotations

import difflib
from collections.abc import Sequence


def close_to(name: str, known: Sequence[str]) -> str:
    """Return the words that suggest one of ``known``, or ''."""
    close = difflib.get_close_matches(name, known, n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""
