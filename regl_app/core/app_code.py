"""One number for the app's own code: two processes with the same number run the same."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

from regl_app.core.app_root import APP_ROOT

PACKAGES = ("regl_app", "client_app", "server_app")


def hash_code(root: Path) -> str:
    """Return a short hex digest of names and content of all ``.py`` files of an app."""
    digest = hashlib.sha256()
    files = (path for package in PACKAGES for path in (root / package).rglob("*.py"))
    for path in sorted(files, key=lambda path: path.relative_to(root).as_posix()):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(root).as_posix()}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()[:16]


@lru_cache(maxsize=1)
def own_code_hash() -> str:
    """Return the digest of the app that this module belongs to."""
    return hash_code(APP_ROOT)
