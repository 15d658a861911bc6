"""Digests of large files, hashed once a machine and not once a process: FLUX alone has 33 GB.

A digest is kept in the cache folder under the file's path, and counts as long as size, times and
inode are those that it was hashed at. What was changed within the last seconds is hashed by each
process: it might change again within one tick of the disk's clock.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import time
from collections.abc import Iterable
from pathlib import Path

from regl_app.config import RunConfig
from regl_app.config.paths import cache_dir
from regl_app.core.errors import StorageError
from regl_app.core.files import exclusive, sha256_file, write_json

LARGE = 2**26
"""Bytes from which on a digest is kept: hashing less takes a tenth of a second."""
_SETTLED = 10 * 10**9
"""Nanoseconds after which a change of a file shows in its times on any disk."""
_SHA256 = re.compile("[0-9a-f]{64}")
_MOST = 512
_known: dict[tuple[object, ...], str] = {}


def digests_folder(config: RunConfig) -> Path | None:
    """Return where a run's machine keeps digests; None: nowhere can be written."""
    try:
        return cache_dir(config) / "digests"
    except StorageError:
        return None


def kept_digest(file: Path, folder: Path | None) -> str:
    """Return the hex SHA-256 of ``file``, hashed only if neither process nor ``folder`` knows it.

    Args:
        file: that is there.
        folder: of :func:`digests_folder`; None: only the process knows.
    """
    stamp = _stamp(file)
    key = (str(file), *stamp.values())
    if key not in _known:
        if len(_known) >= _MOST:
            _known.clear()
        _known[key] = _found(file, stamp, folder)
    return _known[key]


def digest_of(files: Iterable[tuple[str, Path]], folder: Path | None) -> str:
    """Return the hex digest of several files, each with the name that it counts under.

    ``folder`` as for :func:`kept_digest`.
    """
    digest = hashlib.sha256()
    for name, file in files:
        digest.update(f"{name}:{kept_digest(file, folder)}\n".encode())
    return digest.hexdigest()


def _found(file: Path, stamp: dict[str, int], folder: Path | None) -> str:
    changed = max(stamp["modified"], stamp["status"])
    if folder is None or stamp["size"] < LARGE or time.time_ns() - changed < _SETTLED:
        return sha256_file(file)
    place = file.absolute()
    record = folder / f"{hashlib.sha256(str(place).encode()).hexdigest()[:32]}.json"
    if digest := _read(record, stamp):
        return digest
    with exclusive(record):  # the other workers wait instead of reading all of it too
        if digest := _read(record, stamp):
            return digest
        digest = sha256_file(file)
        if _stamp(file) == stamp:
            with contextlib.suppress(StorageError, OSError):  # the next process hashes again
                write_json(record, {"file": str(place), **stamp, "sha256": digest})
    return digest


def _read(record: Path, stamp: dict[str, int]) -> str | None:
    """Return the digest that ``record`` has of a file of ``stamp``, if it is whole."""
    try:
        held = json.loads(record.read_text(encoding="utf-8"))
        if all(held[name] == value for name, value in stamp.items()):
            digest = held["sha256"]
            return digest if _SHA256.fullmatch(digest) else None
    except (OSError, ValueError, LookupError, TypeError):
        pass
    return None


def _stamp(file: Path) -> dict[str, int]:
    state = file.stat()
    return {
        "size": state.st_size,
        "modified": state.st_mtime_ns,
        "status": state.st_ctime_ns,
        "inode": state.st_ino,
    }
