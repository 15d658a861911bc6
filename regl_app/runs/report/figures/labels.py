"""Who holds which labels: the partition, and the supplement that evens it out."""

from __future__ import annotations

import math
from collections.abc import Sequence

from markupsafe import Markup

from regl_app.core.formats import short
from regl_app.runs.report.axes import Axes
from regl_app.runs.report.figures.base import Absent, Figure, caption, legend, scroll
from regl_app.runs.report.figures.heat_map import heat_map
from regl_app.runs.report.figures.numbers import Numbers, matrix_numbers
from regl_app.runs.report.figures.part import MOST_CELLS, part_of, picked
from regl_app.runs.report.run_data import RunData
from regl_app.runs.report.svg import Svg, ticks

PRIVATE = "label counts were kept private (share-diagnostics = false)"
_MAX_SMALL = 24


def partition(run: RunData, prefix: str) -> Figure | Absent:
    """Return the K x C heat map of real training images, counts in the cells."""
    title = "Who holds what"
    if not run.real:
        return Absent(title, PRIVATE)
    names = run.class_names
    largest = max((value for row in run.real if row for value in row), default=0) or 1
    clients, classes = len(run.real), len(names)
    annotated = clients <= 40 and classes <= 30
    part = part_of(clients, classes)
    shown, held = part.rows, picked(part.columns, names)
    missing = [sum(value == 0 for value in row) for row in run.real if row is not None]
    picture = heat_map(
        part.of(run.real),
        label=f"Training images per client and class of {run.name}",
        row_labels=[str(k) for k in shown],
        column_labels=held,
        colour=lambda value: (
            "var(--real)",
            0.0 if value == 0 else 0.1 + 0.9 * math.sqrt(value / largest),
        ),
        text=(lambda value: short(value) if value else "") if annotated else None,
        tip=lambda k, c, value: f"client {shown[k]}, class {held[c]}: {value:.0f} images",
        cell=(
            36.0 if classes <= 14 else 26.0 if annotated else 12.0,
            26.0 if clients <= 20 else 14.0,
        ),
        totals=[None if (row := run.real[k]) is None else sum(row) for k in shown],
    )
    text = caption(
        "Real training images per client (row) and class (column), stronger colour is more; bars "
        "are the clients' totals. On average a client never sees <b>{missing} of {classes}</b> "
        "classes.{few}",
        few=part.words,
        missing=f"{sum(missing) / max(len(missing), 1):.1f}",
        classes=classes,
    )
    numbers = Numbers.of(
        ("client", "class", "images"),
        [row[1:] for row in matrix_numbers([(None, run.real)], columns=names).rows],
    )
    return Figure(f"{prefix}partition", title, text, scroll(picture), numbers)


def before_after(run: RunData, prefix: str) -> Figure | Absent:
    """Return the most skewed client's label histogram without and with its synthetic images."""
    title = "One client before and after"
    if not run.synthetic:
        return Absent(title, reason_without_synthetic(run))
    client = run.showcase_client
    if client is None:
        return Absent(title, PRIVATE)
    real = run.real[client] or []
    made = _row(run.synthetic, client, len(real))
    top = max(a + b for a, b in zip(real, made, strict=True))
    none = [0.0] * len(real)
    names = run.class_names
    panels = Markup("").join(
        Markup("<div><h4>{}</h4>{}</div>").format(
            heading, _bars(real, extra, names, top, f"Client {client}, {heading}")
        )
        for heading, extra in (("Before: real images", none), ("After: real + synthetic", made))
    )
    held = sum(value > 0 for value in real)
    filling = sum(b for a, b in zip(real, made, strict=True) if a == 0)
    text = caption(
        "Client {client}, the most skewed one, holds <b>{held} of {classes}</b> classes. In the "
        "round of its largest supplement it adds <b>{made}</b> synthetic images to its {real} real "
        "ones, {share} % of them in classes that it has never seen.",
        client=client,
        held=held,
        classes=len(real),
        made=f"{sum(made):.0f}",
        share=f"{100 * filling / max(sum(made), 1):.0f}",
        real=f"{sum(real):.0f}",
    )
    chips = legend([("real", "var(--real)", "box"), ("synthetic", "var(--synthetic)", "box")])
    body = chips + Markup('<div class="pair">{}</div>').format(panels)
    numbers = _counted(run, [(client, real)])
    return Figure(f"{prefix}histogram", title, text, body, numbers, wide=True)


def all_clients(run: RunData, prefix: str) -> Figure | Absent:
    """Return small histograms of every client, real and synthetic stacked."""
    title = "Every client after the supplement" if run.synthetic else "Every client's labels"
    if not run.real:
        return Absent(title, PRIVATE)
    # A bar has two parts.
    most = min(_MAX_SMALL, max(MOST_CELLS // (2 * max(len(run.class_names), 1)), 1))
    rows = [(k, row) for k, row in enumerate(run.real) if row is not None][:most]
    pictures = []
    for client, real in rows:
        made = _row(run.synthetic, client, len(real))
        small = _small_bars(real, made, run.class_names, f"Labels of client {client}")
        note = f"{sum(real):.0f} real" + (f" + {sum(made):.0f}" if run.synthetic else "")
        pictures.append(
            Markup("<div><h5>client {} <span>{}</span></h5>{}</div>").format(client, note, small)
        )
    text = caption(
        "One small histogram per client, classes from left to right, each with its own scale. "
        "{seen}{fit}{cut}",
        seen=(
            "Orange fills the gaps that blue leaves."
            if run.synthetic
            else "Gaps are classes a client never sees."
        ),
        fit=_fit(run),
        cut=f" The first {most} of {len(run.real)} clients." * (len(run.real) > most),
    )
    body = Markup('<div class="smalls">{}</div>').format(Markup("").join(pictures))
    numbers = _counted(run, [(k, row) for k, row in enumerate(run.real) if row is not None])
    return Figure(f"{prefix}clients", title, text, body, numbers, wide=True)


def _counted(run: RunData, rows: Sequence[tuple[int, Sequence[float]]]) -> Numbers:
    return Numbers.of(
        ("client", "class", "real", "synthetic"),
        [
            (client, run.class_names[label], real, made)
            for client, row in rows
            for label, (real, made) in enumerate(
                zip(row, _row(run.synthetic, client, len(row)), strict=True)
            )
        ],
    )


def _fit(run: RunData) -> str:
    before, after = run.summary.js_before, run.summary.js_after
    if before is None or after is None:
        return ""
    return (
        " With the largest supplement the Jensen-Shannon distance of a client's labels to those of "
        f"all clients together goes from {before:.2f} to {after:.2f} on average."
    )


def reason_without_synthetic(run: RunData) -> str:
    """Return why there are no synthetic images to show."""
    if not run.config.uses_generator:
        return f"method {run.config.method} uses no synthetic images"
    if not run.config.share_diagnostics:
        return PRIVATE
    return "no synthetic images were recorded"


def _row(rows: Sequence[Sequence[float] | None], client: int, size: int) -> list[float]:
    row = rows[client] if client < len(rows) else None
    return list(row) if row is not None and len(row) == size else [0.0] * size


def _bars(
    real: Sequence[float], made: Sequence[float], names: Sequence[str], top: float, label: str
) -> Markup:
    count = len(real)
    width = max(400.0, 40.0 + 16.0 * count)
    svg = Svg(width, 230.0)
    axes = Axes(svg, ticks(0, top, 4), left=38.0, top=14.0, bottom=36.0)
    axes.rising(short)
    step, every = axes.width / count, max(1, -(-count // 20))
    for index, (a, b) in enumerate(zip(real, made, strict=True)):
        x, y = axes.left + step * (index + 0.14), axes.bottom
        tip = f"class {names[index]}: {a:.0f} real, {b:.0f} synthetic"
        for value, css in ((a, "var(--real)"), (b, "var(--synthetic)")):
            tall = axes.height * axes.share(value)
            y -= tall
            svg.rect((x, y, step * 0.72, tall), style=f"fill:{css}", tip=tip)
        if index % every == 0:
            name = names[index] if len(names[index]) * 6.2 < step * every else names[index][:3]
            svg.text(axes.left + step * (index + 0.5), axes.bottom + 16, name, "tick mid")
    axes.title("class", lift=3.0)
    picture = svg.render(label)
    return scroll(picture) if width > 480 else picture


def _small_bars(
    real: Sequence[float], made: Sequence[float], names: Sequence[str], label: str
) -> Markup:
    width, height = 160.0, 64.0
    svg = Svg(width, height)
    top = max([a + b for a, b in zip(real, made, strict=True)] + [1.0])
    step = width / len(real)
    for index, (a, b) in enumerate(zip(real, made, strict=True)):
        y = height - 1
        tip = f"class {names[index]}: {a:.0f} real, {b:.0f} synthetic"
        for value, css in ((a, "var(--real)"), (b, "var(--synthetic)")):
            tall = (height - 4) * value / top
            y -= tall
            box = (step * (index + 0.1), y, step * 0.8, tall)
            svg.rect(box, style=f"fill:{css}", tip=tip)
    svg.add("line", x1=0, x2=width, y1=height - 0.5, y2=height - 0.5, class_="base")
    return svg.render(label)
