"""Draw what `make demo` found: `python benchmarks/demo_picture.py` (no run is made).

``docs/demo.svg`` from the comparison in ``runs/demo``: global accuracy over rounds, as the first
figure of its report has it, in a file of its own for the README.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from regl_app.core.files import write_text
from regl_app.runs.folder import RunFolder
from regl_app.runs.report.svg import Svg

ROOT = Path(__file__).resolve().parents[1]
# A file of its own has no page to take colours from.
COLOURS = ("#8a8f9c", "#2c63c4", "#e0752d", "#0d8378")
STYLE = (
    "<style>text{font:14px system-ui,sans-serif;fill:#555}.name{font-weight:600;font-size:15px}"
    ".end{text-anchor:end}.mid{text-anchor:middle}.grid{stroke:#8884}"
    "@media(prefers-color-scheme:dark){text{fill:#bbb}}</style>"
)
LEFT, TOP, WIDE, HIGH = 52.0, 12.0, 480.0, 260.0


def main() -> None:
    """Read the finished runs and write the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="?", type=Path, default=ROOT / "runs" / "demo")
    options = parser.parse_args()
    comparison = options.runs / "comparison.json"
    if not comparison.is_file():
        parser.error(f"no {comparison}: run `make demo` first")
    outcomes = json.loads(comparison.read_text(encoding="utf-8"))["outcomes"]
    folders = {each["method"]: RunFolder.open(_folder(options.runs, each)) for each in outcomes}
    curves = {
        method: [record.metrics.accuracy for record in folder.read_history()]
        for method, folder in folders.items()
    }
    out = ROOT / "docs" / "demo.svg"
    write_text(out, picture(curves))
    print(out)


def _folder(runs: Path, outcome: Mapping[str, Any]) -> Path:
    """Return a run's folder where the comparison lies now: it may have been moved."""
    return runs / Path(outcome["folder"]).name


def picture(curves: Mapping[str, Sequence[float]]) -> str:
    """Return accuracies over rounds, from round 0 on, as a picture that stands alone."""
    svg = Svg(LEFT + WIDE + 190, TOP + HIGH + 48)
    last = max(len(curve) for curve in curves.values()) - 1

    def place(number: int, share: float) -> tuple[float, float]:
        return LEFT + WIDE * number / max(last, 1), TOP + HIGH * (1 - share)

    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        (left, y), (right, _) = place(0, share), place(last, share)
        svg.polyline([(left, y), (right, y)], class_="grid")
        svg.text(left - 8, y + 5, f"{share:.0%}", "end")
    for number in range(last + 1):
        x, y = place(number, 0.0)
        svg.text(x, y + 20, str(number), "mid")
    svg.text(LEFT + WIDE / 2, TOP + HIGH + 42, "round", "mid")
    below = TOP + HIGH
    lowest_first = sorted(curves.items(), key=lambda each: each[1][-1])
    for (method, curve), colour in zip(lowest_first, COLOURS, strict=False):
        points = [place(number, share) for number, share in enumerate(curve)]
        svg.polyline(points, fill="none", stroke=colour, stroke_width=2.5)
        x, y = points[-1]
        svg.add("circle", cx=x, cy=y, r=4.0, fill=colour)
        below = min(y + 5, below - 20)  # names keep a line's distance, from the lowest curve up
        name = f"fill:{colour}"
        svg.text(x + 12, below, f"{method} {curve[-1]:.1%}", "name", style=name)
    what = ", ".join(f"{method} {curve[-1]:.1%}" for method, curve in curves.items())
    text = str(svg.render(f"Global accuracy over rounds: {what}"))
    text = text.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)
    return text.replace(">", f">{STYLE}", 1) + "\n"


if __name__ == "__main__":
    main()
