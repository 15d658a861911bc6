"""Every figure of a report as files: SVG, PNG, and its numbers as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from pathlib import Path

from regl_app.core.errors import RunError
from regl_app.core.files import atomic_path, write_text
from regl_app.core.log import logger
from regl_app.runs.report.figures.base import Figure
from regl_app.runs.report.figures.numbers import Numbers
from regl_app.runs.report.standalone import standalone_svg

EXTRA = "pip install 'regl-app[figures]'"
_PIXELS_PER_UNIT = 2


def write_figures(figures: Sequence[Figure], folder: Path) -> list[Path]:
    """Write ``<id>.svg``, ``.png`` and ``.csv`` of each figure into ``folder``, and return them.

    Without the package that draws PNG files these are left out, with a warning that names it.

    Raises:
        RunError: the folder cannot be written.
    """
    drawn = _renderer()
    if drawn is None:
        logger.warning("no PNG files: the package resvg-py is not installed: %s", EXTRA)
    written = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for figure in figures:
            picture = standalone_svg(figure)
            write_text(folder / f"{figure.id}.svg", picture)
            write_text(folder / f"{figure.id}.csv", csv_text(figure.numbers))
            written += [folder / f"{figure.id}.svg", folder / f"{figure.id}.csv"]
            if drawn is not None:
                with atomic_path(folder / f"{figure.id}.png") as temporary:
                    temporary.write_bytes(drawn(picture))
                written.append(folder / f"{figure.id}.png")
    except OSError as error:
        raise RunError(f"--figures={str(folder)!r}: cannot be written: {error}") from error
    return written


def csv_text(numbers: Numbers) -> str:
    """Return a table as CSV, its column names first; what is not known is empty."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(numbers.columns)
    writer.writerows(numbers.rows)
    return stream.getvalue()


def _renderer() -> Callable[[str], bytes] | None:
    """Return what makes a PNG of an SVG document, None where it is not installed."""
    try:
        import resvg_py
    except ImportError:
        return None
    import matplotlib

    # Its own letters come with it: a container may have no font, and text would be missing.
    fonts = str(Path(matplotlib.get_data_path()) / "fonts" / "ttf")

    def draw(picture: str) -> bytes:
        return bytes(
            resvg_py.svg_to_bytes(
                svg_string=picture,
                zoom=_PIXELS_PER_UNIT,
                font_dirs=[fonts],
                sans_serif_family="DejaVu Sans",
                font_family="DejaVu Sans",
            )
        )

    return draw
