"""Names in one text: separated by commas, or as a JSON list where a name has a comma itself."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Sequence


def parse_names(text: str) -> tuple[str, ...]:
    """Return the names of ``a, b`` or ``["a, 1", "b"]``, in NFC; none for an empty text.

    In the first form spaces around names do not count.

    Raises:
        ValueError: a text that begins with ``[`` is no JSON list of texts.
    """
    if not text.strip():
        return ()
    if text.lstrip().startswith("["):
        try:
            names = json.loads(text)
        except ValueError as error:
            raise ValueError(f"{text!r} is no JSON list of texts: {error}") from error
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ValueError(f"{text!r} is no JSON list of texts")
    else:
        names = [name.strip() for name in text.split(",")]
    return tuple(unicodedata.normalize("NFC", name) for name in names)


def listed(names: Sequence[str]) -> str:
    """Return the text that ``parse_names`` takes for ``names``: with commas if it can be."""
    text = ",".join(names)
    try:
        if parse_names(text) == tuple(names):
            return text
    except ValueError:
        pass
    return json.dumps(list(names), ensure_ascii=False)
