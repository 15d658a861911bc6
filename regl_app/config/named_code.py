"""The code that a run names and this app does not bring: a model's module, another's method."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from regl_app.config.external import is_external, offered
from regl_app.config.model_name import is_own_module
from regl_app.config.or_auto import AUTO
from regl_app.core.errors import ConfigError


def named_code(model: str, objective: str) -> str:
    """Return a hex digest of the packages that ``model.name`` and ``objective`` lie in; '' if none.

    Any other text is as good as a name of ours. It is that of the files as this process first saw
    them, or as they were after one of their modules was reloaded; no package is imported.

    Raises:
        ConfigError: a module that is named is in no file.
    """
    found = [
        _package_hash(key, name.partition(":")[0].partition(".")[0])
        for key, name in _named(model, objective)
    ]
    return hashlib.sha256(" ".join(found).encode()).hexdigest() if found else ""


def names_code(model: str, objective: str) -> bool:
    """Return whether there is such code."""
    return bool(_named(model, objective))


def _named(model: str, objective: str) -> list[tuple[str, str]]:
    named = [("model.name", model)] if is_own_module(model) else []
    if objective not in ("", AUTO) and is_external(objective):  # which looks through all packages
        named += [("objective", each) for each in offered()[objective]]
    return named


@dataclass(frozen=True)
class _Seen:
    """A package's digest, and the specs of those of its modules that were loaded by then."""

    digest: str
    loaded: Mapping[str, object]


_seen: dict[str, _Seen] = {}


def _package_hash(key: str, package: str) -> str:
    """Return a digest of the ``.py`` files of ``package``, which is not imported; '' without it."""
    # A module that is reloaded, as in a notebook, has a new spec; what it runs are the new files.
    loaded = {
        name: getattr(module, "__spec__", None)
        for name, module in list(sys.modules.items())
        if name.partition(".")[0] == package
    }
    known = _seen.get(package)
    if known and all(loaded.get(name) is spec for name, spec in known.loaded.items()):
        digest = known.digest
    else:
        digest = _files_hash(key, package)
    _seen[package] = _Seen(digest, loaded)
    return digest


def _files_hash(key: str, package: str) -> str:
    try:
        spec = importlib.util.find_spec(package)
    except ValueError as error:
        raise ConfigError(
            f"{key}={package + ':...'!r} names a module that is in no file ({error}): put the "
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
