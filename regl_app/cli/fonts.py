"""Names in any script as what this machine's fonts can draw."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

from regl_app.core.log import logger

_MOST_LETTERS = 40
# Fonts that have every letter, as a box.
_BOXES = re.compile(r"last.?resort|adobe.?blank", re.IGNORECASE)


@dataclass(frozen=True)
class Drawable:
    """A text, and the file of a font that has all its letters."""

    text: str
    font: str


def drawable(names: Sequence[str]) -> list[Drawable]:
    """Return ``names`` as they can be drawn, long ones cut.

    A name of whose letters no font has all is its class's number, ``#4``; the log says so.
    """
    found, unknown = [], []
    for label, name in enumerate(names):
        text = _clipped(name)
        font = _font_of(frozenset(text) - {" "})
        if font is None:
            unknown.append(f"#{label} is {name!r}")
            text, font = f"#{label}", next(_fonts())
        found.append(Drawable(text, font))
    if unknown:
        logger.warning(
            "no font of this machine has all letters of these classes: %s (install one, such as "
            "Noto, to have them drawn)",
            ", ".join(unknown),
        )
    return found


def _clipped(name: str) -> str:
    """Return ``name`` on one line, with what would turn or hide other text as a dot."""
    text = "".join("·" if unicodedata.category(mark)[0] == "C" else mark for mark in name)
    return text if len(text) <= _MOST_LETTERS else text[: _MOST_LETTERS - 1] + "…"


def _fonts() -> Iterator[str]:
    """Yield the files of this machine's fonts, matplotlib's own first."""
    from matplotlib import font_manager

    own = font_manager.findfont("DejaVu Sans")
    yield own
    others = {each.fname for each in font_manager.fontManager.ttflist} - {own}
    yield from sorted(font for font in others if not _BOXES.search(font))


@cache
def _font_of(letters: frozenset[str]) -> str | None:
    return next((font for font in _fonts() if {ord(each) for each in letters} <= _has(font)), None)


@cache
def _has(font: str) -> frozenset[int]:
    from matplotlib.ft2font import FT2Font

    try:
        return frozenset(FT2Font(font).get_charmap())
    except (OSError, RuntimeError):
        return frozenset()
