"""Files that a command is to write, looked at before it computes anything."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from regl_app.core.errors import ConfigError

_BOTH = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".pdf")
PICTURES = (*_BOTH, ".bmp", ".gif")
"""Endings of a grid of images, which PIL writes."""
DRAWINGS = (*_BOTH, ".svg")
"""Endings of what matplotlib draws."""
TABLES = (".csv", ".json")


def check_file(
    option: str, path: Path | None, endings: Sequence[str] = (), other: str = ""
) -> None:
    """Refuse a file that could not be written in the end; None is no file.

    Args:
        option: how the command names it, ``--out``.
        path: the file.
        endings: those by one of which its form is chosen; none: it has one form.
        other: what else the option takes, for the message.

    Raises:
        ConfigError: the ending is another, or there is a folder of this name.
    """
    if path is None:
        return
    if endings and path.suffix.lower() not in endings:
        allowed = f"{', '.join(endings[:-1])} or {endings[-1]}"
        raise ConfigError(f"{option} must end in {allowed}{other}, got {str(path)!r}")
    if path.is_dir():
        raise ConfigError(f"{option} {str(path)!r} is a folder: name a file in it")
