"""What each client lacks, as the server sees it, and the quotas that answer it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from markupsafe import Markup

from regl_app.core.formats import short
from regl_app.runs.records import RoundRecord
from regl_app.runs.report.figures.base import Absent, Figure, caption, legend, scroll
from regl_app.runs.report.figures.heat_map import Rows, heat_map
from regl_app.runs.report.figures.numbers import matrix_numbers
from regl_app.runs.report.figures.part import Part, part_of, picked
from regl_app.runs.report.run_data import RunData


def matrices(run: RunData, prefix: str) -> Figure | Absent:
    """Return the K x C discrepancy of the first, middle and last round that can tell.

    At the clients round 1 compares with the untrained model, which knows nothing that they could
    lack.
    """
    title = "Discrepancy: what each client lacks"
    given = [r for r in run.history if r.discrepancy and any(r.discrepancy)]
    if not given:
        return Absent(title, _reason(run, "no discrepancies were recorded"))
    if run.config.generates_at_client:
        given = [r for r in given if r.round > 1] or given
    chosen = _first_middle_last(given)
    values = [
        abs(value)
        for record in chosen
        for row in record.discrepancy or []
        if row is not None
        for value in row
    ]
    largest = max([*values, 1e-6])

    def colour(value: float) -> tuple[str, float]:
        return ("var(--lack)" if value > 0 else "var(--know)"), abs(value) / largest

    part = _part(run, [record.discrepancy or [] for record in chosen])
    panels = [
        _panel(run, record, record.discrepancy or [], part, colour, "discrepancy", "{:+.2f}")
        for record in chosen
    ]
    totals = [
        sum(max(value, 0.0) for row in record.discrepancy or [] if row for value in row)
        for record in (given[0], given[-1])
    ]
    text = caption(
        "d = p_global &minus; p_local of the right class, on the synthetic probe set. Strong "
        "<b class=lack>pink</b>: the client's own model fails where the global one does not, so "
        "the client lacks that class. <b class=know>Green</b>: it knows better. The sum of all "
        "lacks is {before}<b>{b}</b> in round {last}.{few}",
        few=part.words,
        before=(f"{totals[0]:.2f} in round {given[0].round} and " if len(given) > 1 else ""),
        b=f"{totals[1]:.2f}",
        last=given[-1].round,
    )
    chips = legend(
        [
            (f"lacks (+{largest:.2f})", "var(--lack)", "box"),
            (f"knows better (-{largest:.2f})", "var(--know)", "box"),
            ("no reply", "", "hatch"),
        ]
    )
    body = chips + Markup('<div class="triple">{}</div>').format(Markup("").join(panels))
    numbers = matrix_numbers(
        [(r.round, r.discrepancy or []) for r in given],
        columns=run.class_names,
        names=("round", "client", "class", "discrepancy"),
    )
    return Figure(f"{prefix}discrepancy", title, text, body, numbers, wide=True)


def quotas(run: RunData, prefix: str) -> Figure | Absent:
    """Return the synthetic images asked of each client and class over the rounds."""
    title = "Quotas: what each client was given"
    name = "quotas" if any(r.quotas and any(r.quotas) for r in run.history) else "synthetic_counts"
    given = [r for r in run.history if any(row and sum(row) for row in getattr(r, name) or [])]
    if not given:
        return Absent(
            title, f"policy {run.config.supplement.policy!r} asks for no synthetic images"
        )
    same = all(getattr(r, name) == getattr(given[0], name) for r in given)
    chosen = given[-1:] if same else _first_middle_last(given)
    largest = max(
        value for r in chosen for row in getattr(r, name) if row is not None for value in row
    )

    def colour(value: float) -> tuple[str, float]:
        return "var(--synthetic)", (value / largest) ** 0.7 if largest else 0.0

    part = _part(run, [getattr(r, name) for r in chosen])
    panels = [_panel(run, r, getattr(r, name), part, colour, "images", "{:.0f}") for r in chosen]
    sums = [sum(sum(row) for row in getattr(r, name) if row) for r in (given[0], given[-1])]
    text = caption(
        "Synthetic images per client and class in that round: {a} in round {first}, "
        "<b>{b}</b> in round {last}. Compare with who holds what: strong cells belong where that "
        "map is empty.{few}",
        few=part.words,
        a=short(sums[0]),
        b=short(sums[1]),
        first=given[0].round,
        last=given[-1].round,
    )
    body = Markup('<div class="triple">{}</div>').format(Markup("").join(panels))
    numbers = matrix_numbers(
        [(r.round, getattr(r, name)) for r in given],
        columns=run.class_names,
        names=("round", "client", "class", "images"),
    )
    return Figure(f"{prefix}quotas", title, text, body, numbers, wide=True)


def _reason(run: RunData, otherwise: str) -> str:
    if run.config.uses_generator:
        return otherwise
    return f"method {run.config.method} uses no synthetic images"


def _first_middle_last(records: Sequence[RoundRecord]) -> list[RoundRecord]:
    indices = sorted({0, len(records) // 2, len(records) - 1})
    return [records[index] for index in indices]


def _part(run: RunData, matrices: Sequence[Rows]) -> Part:
    return part_of(max(map(len, matrices)), len(run.class_names), panels=len(matrices))


def _panel(
    run: RunData,
    record: RoundRecord,
    rows: Rows,
    part: Part,
    colour: Callable[[float], tuple[str, float]],
    what: str,
    form: str,
) -> Markup:
    names = picked(part.columns, run.class_names)
    wide = 22.0 if len(names) <= 14 else 12.0
    picture = heat_map(
        part.of(rows),
        label=f"{what} after round {record.round} of {run.name}",
        row_labels=[str(k) for k in part.rows],
        column_labels=names if len(names) <= 30 else [""] * len(names),
        colour=colour,
        text=None,
        tip=lambda k, c, value: (
            f"round {record.round}, client {part.rows[k]}, class {names[c]}\n"
            f"{what}: {form.format(value)}"
        ),
        cell=(wide, 20.0 if len(part.rows) <= 20 else 10.0),
    )
    body = scroll(picture) if len(names) > 20 else picture
    return Markup("<div><h4>Round {}</h4>{}</div>").format(record.round, body)
