"""The files that decide which images each client of a run has, and in which state they are."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Self

from regl_app.config import RunConfig
from regl_app.config.sections import DataConfig, PartitionConfig
from regl_app.core.allowed_folders import AllowedFolders
from regl_app.core.errors import DataError
from regl_app.core.file_states import file_state
from regl_app.core.files import sha256_file
from regl_app.data.sources.registry import source_state

_FILE = "partition.file"


@dataclass(frozen=True)
class RunFiles:
    """The state of the source's files (``source_state``) and the digest of ``partition.file``.

    Either is '' where there is none.
    """

    source: str
    partition: str = ""

    @classmethod
    def of(
        cls, data: DataConfig, partition: PartitionConfig, roots: AllowedFolders | None = None
    ) -> Self:
        """Return them as they are now.

        Args:
            data: the run's data keys.
            partition: and those of its partition.
            roots: the folders that links below ``data.path`` may lead into; None: anywhere.

        Raises:
            DataError: which files it is cannot be told (``source_state``), or ``partition.file``
                cannot be read.
        """
        return cls(source_state(data, roots), _digest_of(data, partition))

    @property
    def words(self) -> str:
        """Return both as a run's folder holds them, '' if there are no files."""
        given = f"{_FILE} {self.partition[:16]}" if self.partition else ""
        return "; ".join(filter(None, (self.source, given)))


def read_by_all(config: RunConfig) -> dict[str, str]:
    """Return the SHA-256 of each file that server and clients read, by the key that names it.

    A path says nothing of what is there: it is compared by content, as code and configuration are.

    Args:
        config: the run's, its paths absolute.

    Raises:
        DataError: one cannot be read.
    """
    digest = _digest_of(config.data, config.partition)
    return {_FILE: digest} if digest else {}


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file, read once per process and state.

    Raises:
        OSError: it cannot be read.
    """
    return _digest(file_state(path), path)


def _digest_of(data: DataConfig, partition: PartitionConfig) -> str:
    if not partition.file or data.local:
        return ""
    try:
        return file_digest(Path(partition.file).expanduser())
    except OSError as error:
        raise DataError(
            f"{_FILE}={partition.file} cannot be read: {error.strerror} (every machine of the run "
            "needs this file: bring it here)"
        ) from error


@lru_cache(maxsize=8)
def _digest(_state: str, path: Path) -> str:
    return sha256_file(path)
