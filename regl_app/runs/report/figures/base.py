"""What a figure is, and what several figures share: captions, legends, colours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from regl_app.runs.report.figures.numbers import Numbers

WIDTH = 480.0
RUN_COLOURS = 8
RUN_LINES = ("line", "long", "mixed", "short")


@dataclass(frozen=True)
class Figure:
    """A picture with its title, a caption that says what to see in it, and its numbers."""

    id: str
    title: str
    caption: Markup
    body: Markup
    numbers: Numbers
    wide: bool = False


NOT_WHOLE = "no whole global model"
"""Why a figure of the global model is absent where a part of it stays at the clients."""


@dataclass(frozen=True)
class Absent:
    """A figure this run has no data for."""

    title: str
    reason: str


def run_colour(index: int) -> str:
    """Return the CSS colour of the run or condition at ``index``."""
    return f"var(--c{index % RUN_COLOURS})"


def run_line(index: int) -> str:
    """Return the kind of line of the run or condition at ``index``: another where colours recur."""
    return RUN_LINES[index // RUN_COLOURS % len(RUN_LINES)]


def scroll(picture: Markup) -> Markup:
    """Return a picture that keeps its natural width and scrolls inside its own box."""
    return Markup('<div class="scroll" tabindex="0">{}</div>').format(picture)


def legend(entries: Sequence[tuple[str, str, str]]) -> Markup:
    """Return chips for (label, CSS colour, kind), kind being a class of the page's ``.chip i``."""
    chip = Markup('<span class="chip"><i class="{}" style="--k:{}"></i>{}</span>')
    chips = Markup("").join(chip.format(kind, colour, label) for label, colour, kind in entries)
    return Markup('<div class="legend">{}</div>').format(chips)


def caption(template: str, **values: object) -> Markup:
    """Return a caption in which ``{names}`` are replaced by escaped values."""
    return Markup(template).format(**{name: escape(value) for name, value in values.items()})
