"""What the global model makes of each class: what it is taken for, precision, recall, F1."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

from regl_app.core.formats import NONE, percent, short
from regl_app.core.types import Counts
from regl_app.runs.confusions import Confusion
from regl_app.runs.report.choice import after
from regl_app.runs.report.figures.base import NOT_WHOLE, Absent, Figure, caption, scroll
from regl_app.runs.report.figures.heat_map import heat_map
from regl_app.runs.report.figures.numbers import Numbers, matrix_numbers
from regl_app.runs.report.run_data import RunData

MOST_SHOWN = 40
COLUMNS = ("class", "test images", "recall", "precision", "F1", "most often taken for")
_MEASURES = ("precision", "recall", "F1")


def confusion(run: RunData, prefix: str) -> Figure | Absent:
    """Return C x C maps of which class was taken for which, after the best and the last round."""
    title = "Which class is taken for which"
    found = run.confusions if run.whole else None
    if found is None or not found.last.counts.any():
        return Absent(title, _reason(run))
    shown = _most_confused(found.kept(run.model_round).counts)
    kept = found.kept(run.model_round)
    best = "most accurate" if run.best_round is None else "best by validation images"
    panels = [(found.last, "last")]
    if found.best.round != found.last.round:
        panels.insert(0, (found.best, best + (", kept" if kept is found.best else "")))
    names = [_name(run, label) for label in range(len(found.last.counts))]
    pictures = [_panel(run, one, what, shown, names) for one, what in panels]
    body = Markup('<div class="{}">{}</div>').format(
        "pair" if len(pictures) > 1 else "single", Markup("").join(pictures)
    )
    text = caption(
        "A row per true class, a column per answer of the global model on {tests}, numbers of "
        "images. What lies beside the diagonal is wrong.{worst}{few}",
        tests=run.tested_on,
        worst=_worst(kept, names),
        few=(
            f" Shown are the {len(shown)} of {len(names)} classes that most errors are about."
            if len(shown) < len(names)
            else ""
        ),
    )
    numbers = matrix_numbers(
        [(one.round, one.counts.tolist()) for one, _ in panels],
        rows=names,
        columns=names,
        names=("round", "true class", "taken for", "images"),
    )
    return Figure(f"{prefix}confusion", title, text, body, numbers, wide=len(panels) > 1)


def scores(run: RunData, prefix: str) -> Figure | Absent:
    """Return precision, recall and F1 of each class, of the model that the run keeps."""
    title = "Precision, recall and F1 per class"
    table = _scores(run)
    if not table:
        return Absent(title, _reason(run))
    names = [_name(run, label) for label in range(len(table))]
    weakest = sorted(range(len(table)), key=lambda c: (table[c][2] is None, table[c][2] or 0.0, c))
    shown = sorted(weakest[:MOST_SHOWN])
    picture = heat_map(
        [table[label] for label in shown],
        label=f"Precision, recall and F1 per class of {run.name}",
        row_labels=[names[label] for label in shown],
        column_labels=list(_MEASURES),
        colour=lambda value: ("var(--real)", value**2),
        text=lambda value: f"{100 * value:.1f}",
        tip=lambda row, column, value: (
            f"class {names[shown[row]]}\n{_MEASURES[column]}: {percent(value)}"
        ),
        x_title="percent",
        y_title="class",
        cell=(64.0, 22.0),
    )
    text = caption(
        "Of the images taken for a class, the share that is of it (precision); of the images of "
        "it, the share that is found (recall); and their harmonic mean (F1), after {after}. "
        "Lowest F1: <b>{worst}</b> ({f1}).{hatched}{few}",
        after=after(run),
        worst=names[weakest[0]],
        f1=percent(table[weakest[0]][2]),
        hatched=(
            " Hatched: no test images of that class, or none was taken for it."
            if any(value is None for row in table for value in row)
            else ""
        ),
        few=f" Shown are the {len(shown)} weakest of {len(table)}." * (len(shown) < len(table)),
    )
    numbers = Numbers.of(
        ("class", "precision", "recall", "f1"),
        [(name, *row) for name, row in zip(names, table, strict=True)],
    )
    return Figure(f"{prefix}scores", title, text, scroll(picture), numbers)


def class_rows(run: RunData) -> list[list[str]]:
    """Return a row of text per class, for `COLUMNS`; none where nothing is known of the classes."""
    counts = None if run.confusions is None else run.confusions.kept(run.model_round).counts
    found = []
    for label, (precision, recall, f1) in enumerate(_scores(run)):
        images = NONE if counts is None else str(int(counts[label].sum()))
        found.append(
            [
                _name(run, label),
                images,
                percent(recall, 2),
                percent(precision, 2),
                percent(f1, 2),
                NONE if counts is None else _taken_for(run, counts[label], label),
            ]
        )
    return found


def _reason(run: RunData) -> str:
    if not run.history:
        return "no round was completed"
    if not run.whole:
        return NOT_WHOLE
    if run.facts is not None and run.facts.test_images == 0:
        return "the server has no test images, and not every client told what it takes for what"
    return "it was not recorded"


def _name(run: RunData, label: int) -> str:
    return run.class_names[label] if label < len(run.class_names) else str(label)


def _scores(run: RunData) -> list[tuple[float | None, float | None, float | None]]:
    """Return precision, recall and F1 of each class: of the kept round, or one before it."""
    for record in reversed(run.until_kept if run.whole else ()):
        metrics = record.metrics
        if metrics.f1:
            return list(zip(metrics.precision, metrics.per_class, metrics.f1, strict=True))
    return []


def _most_confused(counts: Counts) -> list[int]:
    """Return the classes to show, ascending: all, or those that most errors are about."""
    wrong = counts.copy()
    np.fill_diagonal(wrong, 0)
    errors = wrong.sum(axis=0) + wrong.sum(axis=1)
    return sorted(np.argsort(-errors, kind="stable")[:MOST_SHOWN].tolist())


def _panel(
    run: RunData, one: Confusion, what: str, shown: Sequence[int], names: Sequence[str]
) -> Markup:
    counts = one.counts[np.ix_(shown, shown)]
    # Colour by the share of the true class: else the frequent classes alone have any.
    held = np.maximum(one.counts.sum(axis=1)[list(shown)], 1)
    shares = counts / held[:, None]
    kept = [names[label] for label in shown]
    few = len(shown) <= 14
    picture = heat_map(
        counts.tolist(),
        label=f"Which class is taken for which after round {one.round} of {run.name}",
        row_labels=kept,
        column_labels=kept,
        colour=lambda _: ("var(--real)", 1.0),
        shade=lambda row, column, _: (
            "var(--real)" if row == column else "var(--lack)",
            float(shares[row, column]) ** 0.7,
        ),
        text=(lambda value: short(value) if value else "") if len(shown) <= 24 else None,
        tip=lambda row, column, value: (
            f"{kept[row]}, taken for {kept[column]}\n{value:.0f} images, "
            f"{percent(float(shares[row, column]))} of the class"
        ),
        x_title="taken for",
        y_title="true class",
        cell=(36.0 if few else 22.0 if len(shown) <= 24 else 12.0, 24.0 if few else 15.0),
    )
    heading = Markup("<h4>Round {} <span>{}</span></h4>").format(one.round, what)
    return Markup("<div>{}{}</div>").format(heading, scroll(picture))


def _worst(one: Confusion, names: Sequence[str]) -> str:
    wrong = one.counts.copy()
    np.fill_diagonal(wrong, 0)
    true, taken = divmod(int(wrong.argmax()), len(wrong))
    most = int(wrong[true, taken])
    if most == 0:
        return " Nothing is."
    return (
        f" Most often: {names[true]} taken for {names[taken]}, {most} times in round {one.round}."
    )


def _taken_for(run: RunData, row: Counts, label: int) -> str:
    others = row.copy()
    others[label] = 0
    most = int(others.argmax())
    return f"{_name(run, most)} ({int(others[most])})" if others[most] else NONE
