"""How far the clients' labels are from those of the whole federation, round by round."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from regl_app.runs.records import LabelFits
from regl_app.runs.report.figures.base import Absent, Figure, caption, legend
from regl_app.runs.report.figures.labels import reason_without_synthetic
from regl_app.runs.report.figures.line_chart import Series, line_chart, line_numbers
from regl_app.runs.report.run_data import RunData

_TITLE = "Distance to all clients' labels"

Distances = Sequence[float | None]


def distance(run: RunData, prefix: str) -> Figure | Absent:
    """Return the clients' mean Jensen-Shannon and total variation distance over the rounds."""
    fits = [(record.round, record.labels) for record in run.history if record.labels is not None]
    if not run.synthetic:
        return Absent(_TITLE, reason_without_synthetic(run))
    if not fits:
        return Absent(_TITLE, "no distances were recorded")

    def series(
        name: str, read: Callable[[LabelFits], Distances], colour: str, kind: str, banded: bool
    ) -> Series:
        held = [(number, [v for v in read(fit) if v is not None]) for number, fit in fits]
        held = [(number, values) for number, values in held if values]
        points = [(number, sum(values) / len(values)) for number, values in held]
        band = [(n, min(values), max(values)) for n, values in held] if banded else []
        return Series(name, points, colour, band, kind)

    after = series("with synthetic", lambda fit: fit.js_after, "var(--synthetic)", "line", True)
    before = series("real images alone", lambda fit: fit.js_before, "var(--real)", "line", False)
    variation = series(
        "total variation, with synthetic",
        lambda fit: fit.tv_after,
        "var(--synthetic)",
        "dash",
        False,
    )
    lines = [one for one in (before, after, variation) if one.points]
    if not lines:
        return Absent(_TITLE, "no client's labels were recorded")
    picture = line_chart(
        lines,
        label=f"Distance of the clients' labels to all labels of {run.name}",
        y_text=lambda value: f"{value:.2g}",
        y_range=(0.0, 1.0),
    )
    least = min(after.points, key=lambda point: point[1], default=None)
    text = caption(
        "Jensen-Shannon distance (0 = the same shares, 1 = no class in common) between a client's "
        "labels and those of all clients together: mean over clients, and range with the "
        "supplement.{fit}{grows}",
        fit=(
            f" The supplement takes it from {before.points[0][1]:.2f} to {least[1]:.2f} at best, "
            f"in round {least[0]:g}."
            if least and before.points and least[1] < before.points[0][1]
            else ""
        ),
        grows=(
            " It grows again as the supplement shrinks."
            if least and after.points[-1][1] > least[1] + 0.02 and _shrinks(run)
            else ""
        ),
    )
    chips = [(one.label, one.colour, one.kind) for one in lines]
    return Figure(f"{prefix}distance", _TITLE, text, legend(chips) + picture, line_numbers(lines))


def _shrinks(run: RunData) -> bool:
    made = [
        sum(sum(row) for row in record.synthetic_counts if row)
        for record in run.history
        if record.synthetic_counts
    ]
    return bool(made) and made[-1] < max(made)
