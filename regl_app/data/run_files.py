"""Files that a run reads: those that all its machines must have alike, and in what state they are.

A path says nothing of what is there: it is compared by content, as code and configuration are.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from regl_app.config import RunConfig
from regl_app.core.errors import DataError
from regl_app.core.file_states import file_state
from regl_app.core.files import sha256_file

_FILE = "partition.file"


def read_by_all(config: RunConfig) -> dict[str, str]:
    """Return the SHA-256 of each file that server and clients read, by the key that names it.

    Args:
        config: the run's, its paths absolute.

    Raises:
        DataError: one cannot be read.
    """
    path = config.partition.file
    if not path or config.data.local:
        return {}
    try:
        return {_FILE: file_digest(Path(path))}
    except OSError as error:
        raise DataError(
            f"{_FILE}={path} cannot be read: {error.strerror} (every machine of the run needs this "
            "file: bring it here)"
        ) from error


def run_state(config: RunConfig, source: str) -> str:
    """Return what changes when a file does that decides who holds which image.

    Args:
        config: the run's, its paths absolute.
        source: the state of the source's own files (``source_state``).

    Raises:
        DataError: one cannot be read.
    """
    named = [f"{key} {digest[:16]}" for key, digest in read_by_all(config).items()]
    return "; ".join([*([source] if source else []), *named])


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file, read once per process and state.

    Raises:
        OSError: it cannot be read.
    """
    return _digest(file_state(path), path)


@lru_cache(maxsize=8)
def _digest(_state: str, path: Path) -> str:
    return sha256_file(path)
