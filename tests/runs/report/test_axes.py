"""Where values lie in a plot."""

from __future__ import annotations

import re

from regl_app.runs.report.axes import Axes
from regl_app.runs.report.svg import Svg, ticks


def test_the_first_mark_lies_at_one_end_and_the_last_at_the_other() -> None:
    axes = Axes(Svg(200, 100), [2.0, 4.0, 6.0], left=20, right=30, top=5, bottom=15)
    assert (axes.x(2.0), axes.x(4.0), axes.x(6.0)) == (20, 95, 170)
    assert (axes.y(2.0), axes.y(4.0), axes.y(6.0)) == (85, 45, 5)
    assert axes.share(4.0) == 0.5


def test_every_mark_has_a_line_and_a_text() -> None:
    for direction in ("rising", "running"):
        svg = Svg(200, 100)
        axes = Axes(svg, ticks(0, 10), left=20, top=5, bottom=15)
        getattr(axes, direction)(lambda mark: f"{mark:g} %")
        picture = str(svg.render("a plot"))
        assert picture.count('class="grid"') == len(axes.marks)
        assert re.findall(r">([\d.]+) %<", picture) == [f"{mark:g}" for mark in axes.marks]
