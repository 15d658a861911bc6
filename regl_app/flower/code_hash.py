"""One number for the code that runs: server and clients must have the same.

Flower can load another app's ``client_app`` (see ``regl_app.config.paths``) and a site can have an
old version installed; either would spoil a run without any error.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

from regl_app.config import RunConfig
from regl_app.config.external import is_external
from regl_app.core.app_root import APP_ROOT
from regl_app.core.errors import ConfigError
from regl_app.core.log import is_deployed

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


def refuse_uncovered(config: RunConfig) -> None:
    """Refuse in a deployment what runs code that no hash covers.

    On one machine another package's method is the same for all; two sites may have two versions.

    Raises:
        ConfigError: ``objective`` is another package's, and this process serves a deployment.
    """
    if is_deployed() and is_external(config.objective):
        raise ConfigError(
            f"objective={config.objective!r} is another package's, whose code the nodes cannot "
            "compare: a deployment takes built-in methods only (add its file to "
            "regl_app/learning/methods, or run it in a simulation)"
        )
