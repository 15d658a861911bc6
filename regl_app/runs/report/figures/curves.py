"""How accuracy and loss move over the rounds: of one run, or of several laid over each other."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from regl_app.core.formats import NONE, percent
from regl_app.runs.records import RoundRecord
from regl_app.runs.report.choice import in_the_end, mark, marked_words, warm_up
from regl_app.runs.report.conditions import Condition
from regl_app.runs.report.figures.base import (
    NOT_WHOLE,
    Absent,
    Figure,
    caption,
    legend,
    run_colour,
    run_line,
    scroll,
)
from regl_app.runs.report.figures.heat_map import heat_map
from regl_app.runs.report.figures.line_chart import Series, line_chart, line_numbers
from regl_app.runs.report.figures.numbers import Numbers
from regl_app.runs.report.figures.part import part_of, picked
from regl_app.runs.report.run_data import RunData
from regl_app.runs.statistics import TARGET_ACCURACY, mean_interval

# Columns of 8 units: more are wider than a page.
_MOST_ROUNDS = 100
_NOTHING = "no round was completed"
_OWN_PARTS = (
    "Measured at the clients, with their own parts: there is no whole global model.{marked}"
)
Reading = Callable[[RoundRecord], float | None]


def _percent(value: float) -> str:
    return f"{100 * value:.3g} %"


def _share_range(values: Sequence[float]) -> tuple[float, float]:
    return (max(0.0, min(values, default=0.0) // 0.1 * 0.1), 1.0)


def accuracy(run: RunData, prefix: str) -> Figure | Absent:
    """Return global accuracy and macro-F1 of one run, and what was held out for validation."""
    title = "Accuracy per round"
    if not run.history:
        return Absent(title, _NOTHING)
    scored = run.history if run.whole else ()
    series = [
        Series("global accuracy", [(r.round, r.metrics.accuracy) for r in scored], "var(--real)"),
        Series(
            "macro-F1", [(r.round, r.metrics.macro_f1) for r in scored], "var(--c4)", kind="dash"
        ),
    ] * run.whole + _validation(run, "accuracy")
    if not series:
        return Absent(title, NOT_WHOLE)
    values = [y for one in series for _, y in one.points]
    first, last = run.history[0], run.history[-1]
    picture = line_chart(
        series,
        label=f"Accuracy per round of {run.name}",
        y_text=_percent,
        y_range=_share_range(values),
        reference=(TARGET_ACCURACY, percent(TARGET_ACCURACY, 0)),
        mark=mark(run),
    )
    chips = [(one.label, one.colour, one.kind) for one in series]
    text = caption(
        "Global model on {tests}: from {first} in round {a} to <b>{last}</b> in "
        "round {b}. A smooth climb means clients pull in one direction; jumps mean they undo "
        "each other's work.{marked}"
        if run.whole
        else _OWN_PARTS,
        marked=marked_words(run),
        tests=run.tested_on,
        first=percent(first.metrics.accuracy),
        last=percent(last.metrics.accuracy),
        a=first.round,
        b=last.round,
    )
    return Figure(f"{prefix}accuracy", title, text, legend(chips) + picture, line_numbers(series))


def personalized(run: RunData, prefix: str) -> Figure | Absent:
    """Return accuracy on the clients' own test sets: the global model's and their local ones'."""
    title = "Accuracy at the clients"
    given = [(r.round, r.personalized) for r in run.history if r.personalized]
    if not given:
        return Absent(title, "no personalized evaluation was made")
    ranges = [
        (n, min(p.per_client.values()), max(p.per_client.values()))
        for n, p in given
        if p.per_client
    ]
    means = [(n, p.mean) for n, p in given]
    series = [Series("global model (mean)", means, "var(--know)", ranges)]
    # Clients without test images of their own reported a number that means nothing.
    tested = {r.round: set(r.personalized.per_client) for r in run.history if r.personalized}
    # Trained in one place, there is one model and no client's own.
    local = [] if run.config.central else _client_facts(run, "local_accuracy", tested)
    if local:
        points = [(n, mean) for n, mean, _, _ in local]
        series.append(Series("own model (mean)", points, "var(--c4)", kind="dash"))
    low = min([y for one in series for _, y in one.points] + [low for _, low, _ in ranges])
    picture = line_chart(
        series,
        label=f"Accuracy on the clients' own test sets of {run.name}",
        y_text=_percent,
        y_range=_share_range([low]),
        mark=mark(run),
    )
    until = [one for number, one in given if number <= run.until_kept[-1].round]
    last = until[-1] if until else given[-1][1]
    worst = min(last.per_client, key=lambda k: last.per_client[k], default=None)
    text = caption(
        "On test images drawn like each client's own, every client the same weight: <b>{mean}</b> "
        "{end}{worst}. {own}{marked}",
        end=in_the_end(run),
        marked=marked_words(run),
        mean=percent(last.mean),
        worst=(
            f", client {worst} lowest with {percent(last.per_client[worst])}"
            if worst is not None
            else ""
        ),
        own=(
            "Dashed: the clients' own models after local training, before they are averaged."
            if local
            else ""
        ),
    )
    chips = [(one.label, one.colour, one.kind) for one in series]
    chips.append(("range over clients", "var(--know)", "soft"))
    return Figure(
        f"{prefix}personalized", title, text, legend(chips) + picture, line_numbers(series)
    )


def loss(run: RunData, prefix: str) -> Figure | Absent:
    """Return the global model's test loss of one run."""
    points = [(r.round, r.metrics.loss) for r in run.history if r.metrics.loss is not None]
    title = "Loss per round"
    if run.whole and not points:
        return Absent(title, _NOTHING if not run.history else "no finite loss was recorded")
    series = [Series("test loss", points, "var(--lack)")] * run.whole + _validation(run, "loss")
    trained = _client_facts(run, "loss")
    if trained:
        series.append(
            Series(
                "local training loss (mean, range)",
                [(n, mean) for n, mean, _, _ in trained],
                "var(--ink-3)",
                [(n, low, high) for n, _, low, high in trained],
            )
        )
    if not series:
        return Absent(title, NOT_WHOLE if run.history else _NOTHING)
    picture = line_chart(
        series,
        label=f"Loss per round of {run.name}",
        y_text=lambda value: f"{value:.3g}",
        y_range=(0.0, max(y for one in series for _, y in one.points)),
        mark=mark(run),
    )
    text = caption(
        "Cross-entropy of the global model on {tests}{also}.{marked}" if run.whole else _OWN_PARTS,
        marked=marked_words(run),
        tests=run.tested_on,
        also=(
            "; in grey what clients reach on their own training images. Local loss far below "
            "global loss is the mark of label skew"
            if trained
            else ""
        ),
    )
    chips = [(one.label, one.colour, one.kind) for one in series]
    return Figure(f"{prefix}loss", title, text, legend(chips) + picture, line_numbers(series))


def _validation(run: RunData, name: str) -> list[Series]:
    """Return the line of what was measured on the clients' validation images, if anything was."""
    found = [(r.round, getattr(r.validation, name)) for r in run.history if r.validation]
    points = [(number, value) for number, value in found if value is not None]
    return [Series(f"validation {name}", points, "var(--c6)", kind="dash")] if points else []


def rate(run: RunData, prefix: str) -> Figure | None:
    """Return the clients' learning rate over the rounds; None where it is the same in all."""
    points = [(r.round, r.lr) for r in run.history if r.lr is not None]
    if not points:
        return None
    keys = run.config.train
    series = [Series("learning rate", points, "var(--c4)")]
    picture = line_chart(
        series,
        label=f"Learning rate per round of {run.name}",
        y_text=lambda value: f"{value:.3g}",
        y_range=(0.0, max(y for _, y in points)),
        mark=mark(run),
    )
    text = caption(
        "What every client trains with in a round: {how} from {most}{warm}, <b>{last}</b> in round "
        "{b}.{marked}",
        how=f"train.schedule={keys.schedule}",
        most=f"train.lr={keys.lr:g}",
        warm=f", after {words}" if (words := warm_up(run)) else "",
        last=f"{points[-1][1]:.3g}",
        b=points[-1][0],
        marked=marked_words(run),
    )
    return Figure(f"{prefix}rate", "Learning rate per round", text, picture, line_numbers(series))


def _client_facts(
    run: RunData, name: str, among: Mapping[int, set[int]] | None = None
) -> list[tuple[int, float, float, float]]:
    """Return (round, mean, least, most) of one number that clients (``among``: these) reported."""
    found = []
    for record in run.history:
        values = [
            float(value)
            for client, facts in record.clients.items()
            if isinstance(value := facts.get(name), int | float)
            and (among is None or client in among.get(record.round, ()))
        ]
        if values:
            found.append((record.round, sum(values) / len(values), min(values), max(values)))
    return found


def recall(run: RunData, prefix: str) -> Figure | Absent:
    """Return recall per class over the rounds."""
    title = "Recall per class"
    rounds = [record for record in run.history if record.metrics.per_class]
    if not run.whole:
        return Absent(title, NOT_WHOLE)
    if not rounds:
        return Absent(title, "accuracy per class was not recorded")
    names = run.class_names
    rows = [
        [r.metrics.per_class[label] if label < len(r.metrics.per_class) else None for r in rounds]
        for label in range(len(names))
    ]
    place = sum(r.round <= run.until_kept[-1].round for r in rounds) - 1
    ends = [(row[place], name) for row, name in zip(rows, names, strict=True)]
    last = [(value, name) for value, name in ends if value is not None]
    worst, weakest = min(last) if last else (None, NONE)
    many = len(rounds) > 14 or len(names) > 24
    part = part_of(len(names), len(rounds), most_columns=_MOST_ROUNDS, names=("classes", "rounds"))
    numbered = picked(part.columns, [str(r.round) for r in rounds])
    shown = picked(part.rows, names)
    wide = 36.0 if not many else max(8.0, 400 / len(numbered))
    picture = heat_map(
        part.of(rows),
        label=f"Recall per class and round of {run.name}",
        row_labels=shown,
        column_labels=numbered,
        name_every=math.ceil(6.4 * (max(map(len, numbered)) + 1) / wide),
        colour=lambda value: ("var(--real)", value**2),
        text=None if many else lambda value: f"{100 * value:.0f}",
        tip=lambda row, column, value: (
            f"class {shown[row]}, round {numbered[column]}: {percent(value)}"
        ),
        x_title="round",
        y_title="class",
        cell=(wide, 14.0 if many else 22.0),
    )
    text = caption(
        "Share of each class's test images that the global model recognizes, in percent. Faint "
        "rows are classes it has not learned; weakest {end}: <b>{weakest}</b> ({worst}).{few}",
        few=part.words,
        end=in_the_end(run),
        weakest=weakest,
        worst=percent(worst),
    )
    numbers = Numbers.of(
        ("class", "round", "recall"),
        [
            (name, one.round, value)
            for name, row in zip(names, rows, strict=True)
            for one, value in zip(rounds, row, strict=True)
        ],
    )
    return Figure(f"{prefix}recall", title, text, scroll(picture), numbers)


def overlay(
    groups: Sequence[Condition],
    figure_id: str,
    title: str,
    reading: Reading,
    *,
    share: bool,
    says: str,
    whole: bool = False,
) -> Figure | Absent:
    """Return one quantity of several conditions over each other, seeds as mean and range.

    ``whole``: it is of the global model, and of no condition that has no whole one.
    """
    series = []
    drawn = [() if whole and not group.whole else group.finished or group.runs for group in groups]
    for index, (group, runs) in enumerate(zip(groups, drawn, strict=True)):
        by_round: dict[int, list[float]] = {}
        for run in runs:
            for record in run.history:
                value = reading(record)
                if value is not None:
                    by_round.setdefault(record.round, []).append(value)
        if not by_round:
            continue
        points = [(n, mean_interval(values).mean) for n, values in sorted(by_round.items())]
        band = [(n, min(values), max(values)) for n, values in sorted(by_round.items())]
        several = len(runs) > 1
        ringed = None if several else runs[0].model_round
        series.append(
            Series(
                group.label if group.finished else f"{group.label} (not finished)",
                points,
                run_colour(index),
                band if several else (),
                run_line(index),
                ringed=ringed,
            )
        )
    if not series:
        partial = whole and not any(group.whole for group in groups)
        return Absent(title, NOT_WHOLE if partial else "no run recorded it")
    values = [y for one in series for _, y in one.points]
    values += [low for one in series for _, low, _ in one.band]
    picture = line_chart(
        series,
        label=title,
        y_text=_percent if share else lambda value: f"{value:.3g}",
        y_range=_share_range(values) if share else (0.0, max(values)),
        reference=(TARGET_ACCURACY, percent(TARGET_ACCURACY, 0)) if share else None,
    )
    seeds = any(len(runs) > 1 for runs in drawn)
    says += " Lines are means over seeds, bands reach from the worst to the best seed." * seeds
    lengths = [{len(run.history) for run in runs} for runs in drawn]
    if any(len(each) > 1 for each in lengths):
        says += " Where a seed ended before, later rounds are the mean of the others."
    if any(one.ringed is not None for one in series):
        says += " Ringed: the round whose model a run keeps, chosen by validation images."
    if parts := [group.label for group in groups if whole and not group.whole]:
        says += f" Without {', '.join(parts)}: {NOT_WHOLE}."
    chips = legend([(one.label, one.colour, one.kind) for one in series])
    return Figure(
        figure_id, title, caption("{says}", says=says), chips + picture, line_numbers(series)
    )
