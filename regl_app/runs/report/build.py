"""Build the self-contained HTML report of one run, or of several side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from markupsafe import Markup

from regl_app.core.errors import RunError
from regl_app.core.files import write_text
from regl_app.core.version import __version__
from regl_app.runs.report.export import write_figures
from regl_app.runs.report.page.script import SCRIPT
from regl_app.runs.report.page.style import STYLE
from regl_app.runs.report.page.template import TEMPLATE
from regl_app.runs.report.run_data import RunData
from regl_app.runs.report.run_page import RunPage, run_page
from regl_app.runs.report.side_by_side import SideBySide, lay_side_by_side


def build_report(runs: Sequence[Path], out: Path, figures: Path | None = None) -> Path:
    """Write one HTML file about the run folders ``runs`` to ``out`` and return it.

    The file needs no network and no other file. Several runs are compared: those that differ
    only in their seed count as repetitions of one configuration. Every figure is also written into
    the folder ``figures``, if one is given.

    Raises:
        RunError: no run was given, or one cannot be read.
    """
    if not runs:
        raise RunError("a report needs at least one run folder, got none")
    loaded = [RunData.load(path) for path in runs]
    if len(loaded) == 1:
        together, pages = None, [run_page(loaded[0])]
    else:
        together, detailed = lay_side_by_side(loaded)
        pages = [run_page(run, f"run{index}-") for index, run in enumerate(detailed, start=1)]
    write_text(out, _render(pages, together))
    if figures is not None:
        sections = [together.section] if together else []
        sections += [section for page in pages for section in page.sections]
        write_figures([figure for section in sections for figure in section.figures], figures)
    return out


def _render(pages: Sequence[RunPage], together: SideBySide | None) -> str:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined)
    if together is None:
        links = [(section.id, section.title) for section in pages[0].sections]
        links.append((f"{pages[0].prefix}record", "Record"))
        title = f"{pages[0].name} · ReGL"
    else:
        links = [("comparison", "Side by side"), ("curves", "Round by round"), ("runs", "Runs")]
        title = f"{together.kicker} · ReGL"
    return environment.from_string(TEMPLATE).render(
        title=title,
        links=links,
        runs=pages,
        comparison=together,
        style=Markup(STYLE),
        script=Markup(SCRIPT),
        footer=f"Made by regl {__version__}. This file is complete: it loads nothing.",
    )
