"""A figure of the page as one SVG picture that needs neither the page nor its style sheet.

The page lays a figure's pictures out by HTML and colours them by CSS variables, which drawing
programs know nothing of: here everything is placed by numbers, and variables have become values.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from xml.etree import ElementTree

from markupsafe import escape

from regl_app.runs.report.figures.base import Figure
from regl_app.runs.report.page.style import STYLE

_MARGIN, _GAP, _HEADING, _ROW = 16.0, 22.0, 20.0, 18.0
_MOST_WIDE = 1080.0
# What XML cannot hold, whatever a class is called.
_UNWRITABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_VARIABLES = dict(re.findall(r"--([\w-]+):([^;}]+)[;}]", STYLE[: STYLE.index("@media")]))


def _valued(text: str) -> str:
    """Return ``text`` with the values of CSS variables, those of the light page."""
    return re.sub(r"var\(--([\w-]+)\)", lambda found: _VARIABLES[found[1]], text)


_RULES = _valued(
    "\n".join(re.findall(r"^svg [^{]+\{[^}]*\}", STYLE[: STYLE.index("@media (max")], re.M))
)
_OWN = _valued(
    ".title{font:600 16px var(--sans);fill:var(--ink)}"
    ".heading{font:600 13px var(--sans);fill:var(--ink)}"
    "svg text.chip{font-size:12px}"
)

_STYLED = {"style", "fill", "stroke"}
_DASHES = {"line": "", **dict(re.findall(r"^svg \.(\w+)\{stroke-dasharray:([\d. ]+)", STYLE, re.M))}


@dataclass
class _Parts:
    """What a figure's body holds: (heading, picture), and the legend's (kind, colour, label)."""

    pictures: list[tuple[str, ElementTree.Element]] = field(default_factory=list)
    chips: list[tuple[str, str, str]] = field(default_factory=list)

    def read(self, element: ElementTree.Element, heading: str = "") -> None:
        for child in element:
            if child.tag == "svg":
                self.pictures.append((heading, child))
                heading = ""
            elif child.tag in ("h4", "h5"):
                heading = " · ".join(said.strip() for said in child.itertext() if said.strip())
            elif child.get("class") == "legend":
                self.chips += _chips(child)
            else:
                self.read(child, heading)


def standalone_svg(figure: Figure) -> str:
    """Return ``figure`` as an SVG document: title, legend, pictures; the caption describes it."""
    parts = _Parts()
    body = _UNWRITABLE.sub("", str(figure.body))
    parts.read(ElementTree.fromstring(f"<div>{body}</div>"))
    drawn: list[str] = []
    width = max([320.0, *(min(_size(picture)[0], _MOST_WIDE) for _, picture in parts.pictures)])
    if len(parts.pictures) > 1:
        width = max(width, min(_MOST_WIDE, sum(_size(p)[0] + _GAP for _, p in parts.pictures)))
    title = _UNWRITABLE.sub("", figure.title)
    drawn.append(f'<text class="title" x="{_MARGIN}" y="{_MARGIN + 14}">{escape(title)}</text>')
    y = _MARGIN + 32.0
    if parts.chips:
        y = _legend(drawn, parts.chips, y, width)
    y, reached = _flow(drawn, parts.pictures, y, width)
    wide, tall = max(reached, width) + 2 * _MARGIN, y + _MARGIN
    told = _UNWRITABLE.sub("", figure.caption.striptags())
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{wide:g}" height="{tall:g}" '
        f'viewBox="0 0 {wide:g} {tall:g}">\n<title>{escape(title)}</title>\n'
        f"<desc>{escape(told)}</desc>\n<style>{escape(_RULES + _OWN)}</style>\n"
        f'<rect width="100%" height="100%" fill="{_valued("var(--card)")}"/>\n'
        + "\n".join(drawn)
        + "\n</svg>\n"
    )


def _size(picture: ElementTree.Element) -> tuple[float, float]:
    _, _, width, height = map(float, str(picture.get("viewBox")).split())
    return width, height


def _flow(
    drawn: list[str], pictures: list[tuple[str, ElementTree.Element]], y: float, width: float
) -> tuple[float, float]:
    """Place pictures side by side as long as there is room; return the lower and right ends."""
    x, tall, reached = 0.0, 0.0, 0.0
    above = _HEADING if any(heading for heading, _ in pictures) else 0.0
    for heading, picture in pictures:
        wide, high = _size(picture)
        if x and x + wide > width:
            x, y, tall = 0.0, y + tall + _GAP, 0.0
        left = _MARGIN + x
        if heading:
            said = escape(heading)
            drawn.append(f'<text class="heading" x="{left:g}" y="{y + 12:g}">{said}</text>')
        # Not the text: a class may be called as a variable is.
        for one in picture.iter():
            one.attrib |= {key: _valued(one.attrib[key]) for key in _STYLED & one.attrib.keys()}
        placed = {"x": f"{left:g}", "y": f"{y + above:g}", "width": f"{wide:g}"}
        picture.attrib.pop("style", None)
        picture.attrib |= placed | {"height": f"{high:g}", "overflow": "visible"}
        picture.tail = None
        drawn.append(ElementTree.tostring(picture, encoding="unicode"))
        reached = max(reached, x + wide)
        x, tall = x + wide + _GAP, max(tall, above + high)
    return y + tall, reached


def _chips(legend: ElementTree.Element) -> Iterator[tuple[str, str, str]]:
    for chip in legend:
        mark = chip.find("i")
        if mark is not None:
            colour = str(mark.get("style", "")).removeprefix("--k:")
            yield str(mark.get("class")), colour or "var(--ink-3)", mark.tail or ""


def _legend(drawn: list[str], chips: list[tuple[str, str, str]], y: float, width: float) -> float:
    x = _MARGIN
    for kind, colour, label in chips:
        label = label.strip()
        broad = sum(12.0 if unicodedata.east_asian_width(c) in "WF" else 7.0 for c in label)
        if x > _MARGIN and x + 26 + broad > _MARGIN + width:
            x, y = _MARGIN, y + _ROW
        drawn.append(_valued(_mark(kind, colour, x, y)))
        drawn.append(f'<text class="chip" x="{x + 26:g}" y="{y + 4:g}">{escape(label)}</text>')
        x += 26 + broad + 18
    return y + _ROW


def _mark(kind: str, colour: str, x: float, y: float) -> str:
    if kind in _DASHES:
        dashes = _DASHES[kind] and f' stroke-dasharray="{_DASHES[kind]}" stroke-linecap="round"'
        return (
            f'<path d="M{x:g} {y:g}h20" fill="none" stroke="{colour}" stroke-width="2.4"{dashes}/>'
        )
    middle = x + 13
    if kind in ("dot", "ring"):
        paint = (
            f'fill="{colour}"'
            if kind == "dot"
            else f'fill="none" stroke="{colour}" stroke-width="1.4" stroke-dasharray="2 1.6"'
        )
        return f'<circle cx="{middle:g}" cy="{y:g}" r="5" {paint}/>'
    if kind == "cross":
        path = f"M{middle - 4:g} {y - 4:g}l8 8m0 -8l-8 8"
        return f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="1.8"/>'
    paint = {
        "soft": f'fill="{colour}" fill-opacity="0.22"',
        "hatch": 'fill="none" stroke="var(--ink-3)" stroke-dasharray="2 2.5"',
    }.get(kind, f'fill="{colour}"')
    return f'<rect x="{x + 8:g}" y="{y - 5:g}" width="11" height="11" {paint}/>'
