"""Draw every result as dots with intervals: `python benchmarks/figures.py` (no run is repeated).

``results/NAME.svg`` from ``results/NAME.json``: a row per method; small dots are seeds, the large
one their mean, the bar its 95 % interval.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from regl_app.core.files import write_text
from regl_app.runs.report.svg import Svg, ticks
from regl_app.runs.statistics import mean_interval

RESULTS = Path(__file__).resolve().parent / "results"
# A file of its own has no page to take colours from.
STYLE = (
    "<style>text{font:13px system-ui,sans-serif;fill:#333}.end{text-anchor:end}.mid{"
    "text-anchor:middle}.grid{stroke:#ddd}.bar{stroke:#2c63c4;stroke-width:3;stroke-linecap:round}"
    ".mean{fill:#2c63c4}.seed{fill:none;stroke:#888}@media(prefers-color-scheme:dark){text{"
    "fill:#ddd}.grid{stroke:#444}.bar{stroke:#6fa3f7}.mean{fill:#6fa3f7}}</style>"
)


def main() -> None:
    """Draw all results."""
    for path in sorted(RESULTS.glob("*.json")):
        content = json.loads(path.read_text(encoding="utf-8"))
        if "outcomes" in content:
            draw(content, path.with_suffix(".svg"))
            print(path.with_suffix(".svg").name)


def draw(content: Mapping[str, object], path: Path) -> None:
    """Write the picture of a comparison's JSON content."""
    methods, outcomes = content["methods"], content["outcomes"]
    assert isinstance(methods, list | tuple)
    assert isinstance(outcomes, list)
    tailed = any(each.get("tail_accuracy") is not None for each in outcomes)
    key = "tail_accuracy" if tailed else "accuracy"
    rows = {
        method: [
            100 * each[key]
            for each in outcomes
            if each["method"] == method and each[key] is not None
        ]
        for method in methods
    }
    if not any(rows.values()):  # a part of every model stays at the clients
        return
    what = "accuracy on the test set of the same long tail" if tailed else "global accuracy"
    picture = _dots({name: values for name, values in rows.items() if values}, f"{what}, %")
    # Plain text: Markup would escape what is put in.
    text = str(picture.render(f"{path.stem}: {what}"))
    text = text.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)
    write_text(path, text.replace(">", f">{STYLE}", 1) + "\n")


def _dots(rows: Mapping[str, Sequence[float]], title: str) -> Svg:
    left, right, tall, foot = 150.0, 96.0, 30.0, 44.0
    svg = Svg(720.0, tall * len(rows) + foot + 8)
    intervals = {name: mean_interval(values) for name, values in rows.items()}
    ends = [
        each.mean + sign * (each.half or 0.0) for each in intervals.values() for sign in (-1, 1)
    ]
    shown = [*ends, *(value for values in rows.values() for value in values)]
    marks = ticks(max(min(shown), 0.0), min(max(shown), 100.0), 6)
    scale = (svg.width - left - right) / (marks[-1] - marks[0])

    def x_of(value: float) -> float:
        return left + (min(max(value, marks[0]), marks[-1]) - marks[0]) * scale

    bottom = 8 + tall * len(rows)
    for mark in marks:
        svg.add("line", x1=x_of(mark), x2=x_of(mark), y1=4, y2=bottom, class_="grid")
        svg.text(x_of(mark), bottom + 16, f"{mark:g}", "mid")
    svg.text((left + svg.width - right) / 2, bottom + 34, title, "mid")
    for index, (name, values) in enumerate(rows.items()):
        y, interval = 8 + tall * (index + 0.5), intervals[name]
        half = interval.half or 0.0
        svg.text(left - 12, y + 4, name, "end")
        x1, x2 = x_of(interval.mean - half), x_of(interval.mean + half)
        svg.add("line", x1=x1, x2=x2, y1=y, y2=y, class_="bar")
        for value in values:
            svg.add("circle", cx=x_of(value), cy=y, r=3.0, class_="seed")
        svg.add("circle", cx=x_of(interval.mean), cy=y, r=5.0, class_="mean")
        svg.text(svg.width - right + 12, y + 4, interval.text(), "")
    return svg


if __name__ == "__main__":
    main()
