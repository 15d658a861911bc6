"""The folders that an operator lets configurations lead into."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from regl_app.core.errors import ConfigError, DataError


@dataclass(frozen=True)
class AllowedFolders:
    """Folders that paths have to lie in, once links are followed; none: anywhere."""

    folders: tuple[Path, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the folders of ``text``, separated as in PATH.

        Raises:
            ConfigError: one of them is not an absolute path of a folder.
        """
        folders = []
        for part in filter(None, text.split(os.pathsep)):
            path = Path(part)
            if not path.is_absolute() or not path.is_dir():
                raise ConfigError(
                    f"data-root must be absolute paths of folders, joined by {os.pathsep!r}, got "
                    f"{part!r} (flower-supernode --node-config 'data-root=\"/srv/regl\"')"
                )
            folders.append(path.resolve())
        return cls(tuple(folders))

    def inside(self, path: Path, what: str) -> Path:
        """Return ``path`` with links followed.

        Raises:
            DataError: it leads out of the folders; names it by ``what``.
        """
        resolved = path.resolve()
        if self.holds(resolved):
            return resolved
        allowed = ", ".join(map(str, self.folders))
        led = "" if resolved == path else f", which is {resolved}"
        raise DataError(
            f"{what} must lie in what this node's operator allows, data-root={allowed!r}, got "
            f"{str(path)!r}{led} (only the operator can change that)"
        )

    def holds(self, path: Path) -> bool:
        """Return whether ``path`` lies in one of the folders, or there are none."""
        resolved = path.resolve()
        return not self.folders or any(resolved.is_relative_to(root) for root in self.folders)
