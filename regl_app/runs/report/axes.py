"""The area of a plot within its picture: where values lie, grid lines, what stands at them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from regl_app.runs.report.svg import Svg

Text = Callable[[float], str]


class Axes:
    """One axis of values with round ``marks``; the other is the figure's own.

    Args:
        svg: the picture.
        marks: ascending; the first and the last are the axis' ends.
        left: margin, in the picture's units; likewise ``right``, ``top``, ``bottom``.
        right: margin.
        top: margin.
        bottom: margin.
    """

    def __init__(
        self,
        svg: Svg,
        marks: Sequence[float],
        *,
        left: float,
        right: float = 0.0,
        top: float,
        bottom: float,
    ) -> None:
        self.svg = svg
        self.marks = marks
        self.left, self.right = left, svg.width - right
        self.top, self.bottom = top, svg.height - bottom

    @property
    def width(self) -> float:
        """Return the plot's width."""
        return self.right - self.left

    @property
    def height(self) -> float:
        """Return the plot's height."""
        return self.bottom - self.top

    def share(self, value: float) -> float:
        """Return where ``value`` lies between the first mark, 0, and the last, 1."""
        return (value - self.marks[0]) / (self.marks[-1] - self.marks[0])

    def x(self, value: float) -> float:
        """Return where ``value`` lies if values go to the right."""
        return self.left + self.width * self.share(value)

    def y(self, value: float) -> float:
        """Return where ``value`` lies if values go up."""
        return self.bottom - self.height * self.share(value)

    def level(self, value: float, class_: str = "grid") -> None:
        """Draw a line across the plot at the height of ``value``."""
        y = self.y(value)
        self.svg.add("line", x1=self.left, x2=self.right, y1=y, y2=y, class_=class_)

    def rising(self, text: Text, gap: float = 6.0) -> None:
        """Draw a line per mark across the plot, its text ``gap`` to the left."""
        for mark in self.marks:
            self.level(mark)
            self.svg.text(self.left - gap, self.y(mark) + 4, text(mark), "tick end")

    def running(self, text: Text) -> None:
        """Draw an upright line per mark, its text below."""
        for mark in self.marks:
            x = self.x(mark)
            self.svg.add("line", x1=x, x2=x, y1=self.top, y2=self.bottom, class_="grid")
            self.svg.text(x, self.bottom + 15, text(mark), "tick mid")

    def title(self, text: str, lift: float = 2.0) -> None:
        """Write what goes to the right, ``lift`` above the picture's lower edge."""
        self.svg.text((self.left + self.right) / 2, self.svg.height - lift, text, "axis mid")
