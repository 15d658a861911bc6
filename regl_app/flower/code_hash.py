"""One number for the code that runs: server and clients must have the same.

Flower can load another app's ``client_app`` (see ``regl_app.config.paths``) and a site can have an
old version installed; either would spoil a run without any error.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Collection
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from regl_app.config.external import is_external
from regl_app.config.model_name import is_own_module
from regl_app.core.app_root import APP_ROOT
from regl_app.core.errors import ConfigError
from regl_app.core.log import is_deployed

if TYPE_CHECKING:  # a message's process needs the digest alone
    from regl_app.config import RunConfig

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


def run_code_hash(config: RunConfig) -> str:
    """Return the digest of all code that a run depends on: the app's, and of a model's package.

    What ``model.name='package.module:Class'`` names is in no bundle, so that two nodes could have
    two versions of it.
    """
    return model_code_hash(config.model.name)


def model_code_hash(name: str) -> str:
    """Return ``run_code_hash`` of a run whose ``model.name`` is ``name``; '' or any other text: as
    for a model of ours. It is that of the files as this process first saw them.

    Raises:
        ConfigError: the module that is named is in no file.
    """
    if not is_own_module(name):
        return own_code_hash()
    package = name.partition(":")[0].partition(".")[0]
    return hashlib.sha256(f"{own_code_hash()} {_package_hash(package)}".encode()).hexdigest()[:16]


@lru_cache(maxsize=4)
def _package_hash(package: str) -> str:
    """Return a digest of the ``.py`` files of ``package``, which is not imported; '' without it."""
    try:
        spec = importlib.util.find_spec(package)
    except ValueError as error:
        raise ConfigError(
            f"model.name={package + ':...'!r} names a module that is in no file ({error}): put the "
            "class into one that the run's processes can import"
        ) from error
    if spec is None:
        return ""
    digest = hashlib.sha256()
    for root in sorted(spec.submodule_search_locations or ()):
        for path in sorted(Path(root).rglob("*.py")):
            digest.update(f"{path.relative_to(root).as_posix()}\0".encode() + path.read_bytes())
    if not spec.submodule_search_locations and spec.origin and Path(spec.origin).is_file():
        digest.update(Path(spec.origin).read_bytes())
    return digest.hexdigest()


def refuse_uncovered(config: RunConfig, models: Collection[str] | None = None) -> None:
    """Refuse in a deployment what runs code that no hash covers, or that no operator allowed.

    On one machine another package's method is the same for all; two sites may have two versions.

    Args:
        config: the run's.
        models: the dotted names of modules that a node's operator allows; None: no node asks.

    Raises:
        ConfigError: ``objective`` is another package's, or ``model.name`` is code of this node that
            is not in ``models``, and this process serves a deployment.
    """
    name = config.model.name
    if models is not None and is_deployed() and is_own_module(name) and name not in models:
        raise ConfigError(
            f"model.name={name!r} names code of this node, which it runs only if its operator "
            f"allows that: flower-supernode --node-config 'models=\"{name}\"' (allowed: "
            f"{', '.join(map(repr, models)) or 'nothing'})"
        )
    if is_deployed() and is_external(config.objective):
        raise ConfigError(
            f"objective={config.objective!r} is another package's, whose code the nodes cannot "
            "compare: a deployment takes built-in methods only (add its file to "
            "regl_app/learning/methods, or run it in a simulation)"
        )
