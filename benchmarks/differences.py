"""What ``regl`` is above and below, by the tables: `python benchmarks/differences.py`.

Each figure is ``regl`` less another row of one table of ``results/``, in points, paired by seed,
with a 95 % interval; no run is made. ``results/differences.md`` is what the README shows.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from regl_app.core.files import write_text
from regl_app.runs.statistics import Interval, mean_interval, paired

RESULTS = Path(__file__).resolve().parent / "results"
OWN = "regl"
SOURCES = {"digits": "digits", "mnist": "MNIST", "fashion-mnist": "Fashion-MNIST"}
LOSSES = {
    "fedlc": "FedLC",
    "fedrs": "FedRS",
    "balanced-softmax": "balanced softmax",
    "fedntd": "FedNTD",
}
HARD, MILD, FALLING = "all-{}-beta0.01", "all-{}-beta0.1", "cosine-{}-beta0.01"
PAGE = "../../docs/teaching-results.md"
FALLS = f"[a rate that falls]({PAGE}#a-learning-rate-that-falls)"
# Which table, which of its rows, which figure.
BEFORE = {
    "`fedavg`": (HARD, "fedavg", "accuracy"),
    f"`fedavg` at [Dirichlet 0.1]({PAGE}#a-milder-skew)": (MILD, "fedavg", "accuracy"),
    f"`fedavg`, both with {FALLS}": (FALLING, "fedavg", "accuracy"),
    "likewise, mean of all rounds": (FALLING, "fedavg", "mean_accuracy"),
}
AFTER = {
    "`ccvr`, which needs no image": (HARD, "ccvr", "accuracy"),
    "`regl-hard`: neither soft labels nor experts": (HARD, "regl-hard", "accuracy"),
    "`regl-free`: no adapter": (HARD, "regl-free", "accuracy"),
    "`regl-dpd`: measured discrepancies": (HARD, "regl-dpd", "accuracy"),
    "`central`": (HARD, "central", "accuracy"),
}


def main() -> None:
    """Write the table."""
    text = as_markdown()
    write_text(RESULTS / "differences.md", text)
    print(text)


def as_markdown() -> str:
    """Return the table, with what it is of."""
    lines = [_line(f"`{OWN}` less", list(SOURCES.values())), "| --- | ---: | ---: | ---: |"]
    lines += [_line(label, _less(*which)) for label, which in BEFORE.items()]
    lines.append(_best_loss())
    lines += [_line(label, _less(*which)) for label, which in AFTER.items()]
    lines.append(_real_images())
    head = (
        f"`{OWN}` less others in points of global accuracy after the last round, paired by seed; "
        "bold: beyond the interval; `python benchmarks/differences.py`"
    )
    made = "by the tables in benchmarks/results, where machine and revision of each stand."
    return "\n".join([head, "", *lines, "", made, ""])


def _line(label: str, cells: Sequence[str]) -> str:
    return f"| {label} | {' | '.join(cells)} |"


def _less(table: str, row: str, of: str) -> list[str]:
    """Return the cells of ``regl`` less ``row``, by source; '' where one was not measured."""
    names = [table.format(source) for source in SOURCES]
    return [_cell(paired(_by_seed(each, OWN, of), _by_seed(each, row, of))) for each in names]


def _best_loss() -> str:
    """Return the line of the best of those that only change the loss, by its mean."""
    best, cells = [], []
    for source in SOURCES:
        rows = {row: _by_seed(HARD.format(source), row, "accuracy") for row in LOSSES}
        measured = [row for row, found in rows.items() if found]
        if not measured:
            best.append("-")
            cells.append("")
            continue
        first = max(measured, key=lambda row: mean_interval(list(rows[row].values())).mean)
        best.append(LOSSES[first])
        cells.append(_cell(paired(_by_seed(HARD.format(source), OWN, "accuracy"), rows[first])))
    label = f"the best that [only changes the loss]({PAGE}#beside-methods-that-need-no-image)"
    return _line(f"{label} ({', '.join(best)})", cells)


def _real_images() -> str:
    """Return the line of other clients' real images in the place of synthetic ones."""
    path = RESULTS / "real-images.json"
    held = json.loads(path.read_text(encoding="utf-8"))["by_seed"] if path.is_file() else {}
    cells = []
    for source in SOURCES:
        found = held.get(f"{source}-beta0.01", {})
        real = {int(seed): value for seed, value in found.items()}
        cells.append(_cell(paired(_by_seed(HARD.format(source), OWN, "accuracy"), real)))
    label = f"[other clients' real images]({PAGE}#what-better-images-could-bring)"
    return _line(f"{label} instead of generated ones", cells)


@cache
def _outcomes(table: str) -> tuple[Mapping[str, Any], ...]:
    path = RESULTS / f"{table}.json"
    return tuple(json.loads(path.read_text(encoding="utf-8"))["outcomes"]) if path.is_file() else ()


def _by_seed(table: str, row: str, of: str) -> dict[int, float]:
    runs = (each for each in _outcomes(table) if each["method"] == row)
    return {each["seed"]: each[of] for each in runs if each.get(of) is not None}


def _cell(points: Interval | None) -> str:
    if points is None or points.half is None:
        return ""
    text = points.text(100)
    return f"**{text}**" if abs(points.mean) > points.half else text


if __name__ == "__main__":
    main()
