"""In which state the files are that decide which images each client of a run has."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from regl_app.config.sections import DataConfig, PartitionConfig
from regl_app.core.allowed_folders import AllowedFolders
from regl_app.core.file_states import files_state
from regl_app.data.sources.registry import source_state


@dataclass(frozen=True)
class RunFiles:
    """The states of the source's files (``source_state``) and of ``partition.file``; '': none."""

    source: str
    partition: str = ""

    @classmethod
    def of(
        cls, data: DataConfig, partition: PartitionConfig, roots: AllowedFolders | None = None
    ) -> Self:
        """Return the states as they are now.

        Args:
            data: the run's data keys.
            partition: and those of its partition.
            roots: the folders that links below ``data.path`` may lead into; None: anywhere.

        Raises:
            DataError: which files it is cannot be told (``source_state``).
        """
        given = [Path(partition.file).expanduser()] if partition.file else []
        return cls(source_state(data, roots), files_state(given) if given else "")

    @property
    def words(self) -> str:
        """Return both as a run's folder holds them, '' if there are no files."""
        given = f"partition.file: {self.partition}" if self.partition else ""
        return "; ".join(filter(None, (self.source, given)))
