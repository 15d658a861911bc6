"""Files that a command is to write, looked at before it computes anything."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from regl_app.core.errors import ConfigError


class Endings(NamedTuple):
    """By which endings a file's form is chosen, in small letters with the dot.

    Beside the ``usual`` ones, which the message lists, those that ``writes`` says of.
    """

    usual: Sequence[str]
    writes: Callable[[str], bool] = lambda _: False


def _pillow_writes(ending: str) -> bool:
    from PIL import Image

    kind = Image.registered_extensions().get(ending)
    if kind not in Image.SAVE:
        return False
    try:  # some write no colours, others need what is not installed
        Image.new("RGB", (64, 64)).save(BytesIO(), kind)
    except (OSError, ValueError, KeyError, RuntimeError):
        return False
    return True


def _matplotlib_writes(ending: str) -> bool:
    from matplotlib.figure import Figure

    kind, figure = ending.removeprefix("."), Figure(figsize=(1, 1))
    if kind not in figure.canvas.get_supported_filetypes():
        return False
    figure.text(0, 0, "x")
    try:  # .pgf needs LaTeX
        with TemporaryDirectory() as folder:
            figure.savefig(Path(folder) / f"drawing{ending}", format=kind)
    except (OSError, ValueError, RuntimeError):
        return False
    return True


_BOTH = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".pdf")
PICTURES = Endings((*_BOTH, ".bmp", ".gif"), _pillow_writes)
"""Endings of a grid of images."""
DRAWINGS = Endings((*_BOTH, ".svg"), _matplotlib_writes)
"""Endings of what matplotlib draws."""
TABLES = Endings((".csv", ".json"))


def check_file(
    option: str, path: Path | None, endings: Endings | None = None, other: str = ""
) -> None:
    """Refuse a file that could not be written in the end; None is no file.

    Args:
        option: how the command names it, ``--out``.
        path: the file.
        endings: those by one of which its form is chosen; None: it has one form.
        other: what else the option takes, for the message.

    Raises:
        ConfigError: the ending is another, or there is a folder of this name.
    """
    if path is None:
        return
    ending = path.suffix.lower()
    if endings and ending not in endings.usual and not endings.writes(ending):
        allowed = f"{', '.join(endings.usual[:-1])} or {endings.usual[-1]}"
        raise ConfigError(f"{option} must end in {allowed}{other}, got {str(path)!r}")
    if path.is_dir():
        raise ConfigError(f"{option} {str(path)!r} is a folder: name a file in it")
