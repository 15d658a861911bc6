"""Class names as names of folders: none leads elsewhere, no two are the same."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

from regl_app.data.leftovers import is_leftover

_MOST_BYTES = 200
# '%' only where it would read as one of our own escapes.
_UNSAFE = re.compile(r"[/\\\x00-\x1f\x7f]|%(?=[0-9A-Fa-f]{2})")


def folder_names(class_names: Sequence[str]) -> tuple[str, ...]:
    """Return for each class the name of a folder, its own wherever that is safe.

    Separators, control characters and the first character of a hidden or a system's
    name become ``%2F``, as in addresses; a name too long is cut, and told apart by a digest.
    """
    found: list[str] = []
    taken: set[str] = set()
    for name in class_names:
        safe = _safe(name)
        # File systems that take 'A' and 'a' for the same are left to their users: names stay.
        while safe in taken:
            safe += "_"
        taken.add(safe)
        found.append(safe)
    return tuple(found)


def _safe(name: str) -> str:
    safe = _UNSAFE.sub(lambda mark: _escaped(mark[0]), name)
    if not safe or is_leftover(safe):
        safe = _escaped(safe[:1] or "\0") + safe[1:]
    content = safe.encode("utf-8", "surrogateescape")
    if len(content) > _MOST_BYTES:
        digest = hashlib.sha256(content).hexdigest()[:16]
        safe = f"{content[:_MOST_BYTES].decode('utf-8', 'ignore')}-{digest}"
    return safe


def _escaped(text: str) -> str:
    return "".join(f"%{byte:02X}" for byte in text.encode("utf-8", "surrogateescape"))
