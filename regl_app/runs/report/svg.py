"""A few lines of SVG: elements, escaped text, axes. Colours are the page's CSS variables."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from markupsafe import Markup, escape

Box = tuple[float, float, float, float]


def _number(value: float | str) -> str:
    if isinstance(value, str):
        return value
    return f"{value:.2f}".rstrip("0").rstrip(".")


class Svg:
    """A picture of ``width`` x ``height`` units, drawn element by element."""

    def __init__(self, width: float, height: float) -> None:
        self.width = width
        self.height = height
        self._parts: list[str] = []

    def add(
        self,
        tag: str,
        *,
        text: str | None = None,
        tip: str | None = None,
        **attributes: float | str,
    ) -> None:
        """Add an element; ``class_`` and ``stroke_width`` become ``class`` and ``stroke-width``.

        ``tip`` is what shows on hovering.
        """
        self._emit(tag, attributes, text, tip)

    def rect(self, box: Box, *, tip: str | None = None, **attributes: float | str) -> None:
        """Add a rectangle (x, y, width, height)."""
        x, y, width, height = box
        placed: dict[str, float | str] = {"x": x, "y": y, "width": width, "height": height}
        self._emit("rect", placed | attributes, None, tip)

    def text(
        self, x: float, y: float, text: str, class_: str = "tick", **more: float | str
    ) -> None:
        """Add text whose baseline starts at ``x``, ``y``."""
        placed: dict[str, float | str] = {"x": x, "y": y, "class_": class_}
        self._emit("text", placed | more, text, None)

    def polyline(self, points: Sequence[tuple[float, float]], **attributes: float | str) -> None:
        """Add a line through ``points``."""
        path = "M" + "L".join(f"{_number(x)} {_number(y)}" for x, y in points)
        self._emit("path", {"d": path} | attributes, None, None)

    def _emit(
        self, tag: str, attributes: Mapping[str, float | str], text: str | None, tip: str | None
    ) -> None:
        listed = "".join(
            f' {name.rstrip("_").replace("_", "-")}="{escape(_number(value))}"'
            for name, value in attributes.items()
        )
        inner = "" if tip is None else f"<title>{escape(tip)}</title>"
        inner += "" if text is None else str(escape(text))
        self._parts.append(f"<{tag}{listed}>{inner}</{tag}>" if inner else f"<{tag}{listed}/>")

    def render(self, label: str) -> Markup:
        """Return the picture; ``label`` is what a screen reader says."""
        size = f"{_number(self.width)} {_number(self.height)}"
        return Markup(
            f'<svg viewBox="0 0 {size}" role="img" aria-label="{escape(label)}" '
            f'style="--natural:{_number(self.width)}px">{"".join(self._parts)}</svg>'
        )


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Return about ``count`` round numbers that span ``low`` to ``high``."""
    if high <= low:
        high = low + 1.0
    raw = (high - low) / max(count - 1, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * m for m in (1, 2, 2.5, 5, 10) if power * m >= raw * 0.8)
    first = math.floor(low / step + 1e-9)
    last = math.ceil(high / step - 1e-9)
    return [round(step * index, 10) for index in range(first, last + 1)]
