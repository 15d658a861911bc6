"""How good the synthetic images are: read as meant, like real ones, as various, not copied."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from markupsafe import Markup

from regl_app.config.supplement_sections import TORCH_FIDELITY
from regl_app.core.formats import percent
from regl_app.runs.report.figures.base import Absent, Figure, caption, scroll
from regl_app.runs.report.figures.heat_map import heat_map
from regl_app.runs.report.figures.labels import reason_without_synthetic
from regl_app.runs.report.figures.numbers import Numbers, matrix_numbers
from regl_app.runs.report.figures.part import Part, part_of, picked
from regl_app.runs.report.run_data import RunData
from regl_app.supplement.image_distance import DISTANCES
from regl_app.supplement.image_quality import LEAST, MEASURES
from regl_app.supplement.near_copies import CHANCE, LEAST_HELD_OUT

_TITLE = "How good the synthetic images are"
_FACT = "images_"
_NAMES = {
    "reading": "Read as meant",
    "fidelity": "Fidelity",
    "diversity": "Diversity",
    "near_copies": "Near-copies",
}

_PLACES = {"kid": 4}
_NOT_MEASURED = "not measured"

Cells = Sequence[float | None]


def quality_of_images(run: RunData, prefix: str) -> Figure | Absent:
    """Return K x C maps of each measure, or where labels are private, one of K x measures.

    Of each client those of the round in which most of its images were looked at, the last of these.
    """
    told = _told(run)
    if not told:
        return Absent(_TITLE, _reason(run))
    by_class = _by_class(run)
    known = [name for name in MEASURES if by_class and _known(by_class[name])]
    part = (
        part_of(run.num_clients, len(run.class_names), panels=len(known))
        if by_class
        else part_of(len(told), len(MEASURES))
    )
    panels = (
        [_panel(run, name, by_class[name], part) for name in known]
        if by_class
        else [_all_classes(run, told, part)]
    )
    body = Markup('<div class="pair">{}</div>').format(Markup("").join(panels))
    numbers = (
        matrix_numbers(
            [(name, by_class[name]) for name in known],
            columns=run.class_names,
            names=("measure", "client", "class", "value"),
        )
        if by_class
        else Numbers.of(
            ("measure", "client", "value"),
            [(name, k, told[k].get(name)) for k in sorted(told) for name in MEASURES],
        )
    )
    return Figure(
        f"{prefix}quality",
        _TITLE,
        _caption(told, bool(by_class), _features(run)) + Markup("{}").format(part.words),
        body,
        numbers,
        wide=True,
    )


def _reason(run: RunData) -> str:
    if not run.config.uses_generator:
        return reason_without_synthetic(run)
    if not run.config.supplement.measure:
        return "supplement.measure = false"
    if run.config.supplement.site == "server":
        return "the server made and used the images, and has no real ones to hold them against"
    if run.config.hides_discrepancy:
        return "the clients keep to themselves how their supplement went (privacy.*)"
    return "nothing was measured"


def _told(run: RunData) -> dict[int, dict[str, float]]:
    """Return what is known of all of a client's images together, as last measured."""
    found: dict[int, dict[str, float]] = {}
    for record in run.history:
        for client, facts in record.clients.items():
            for name in (*MEASURES, *DISTANCES):
                value = facts.get(_FACT + name)
                if isinstance(value, int | float):
                    found.setdefault(client, {})[name] = float(value)
    return found


def _by_class(run: RunData) -> Mapping[str, list[Cells | None]]:
    """Return the K x C matrix of each measure; empty where the clients keep classes private."""
    found: dict[str, list[Cells | None]] = {name: [None] * run.num_clients for name in MEASURES}
    most: dict[tuple[str, int], int] = {}
    for quality in [record.quality for record in run.history if record.quality is not None]:
        images = [sum(row or []) for row in quality.images or []]
        for name in MEASURES:
            rows: Sequence[Cells | None] = getattr(quality, name)
            for client, (row, count) in enumerate(zip(rows, images, strict=True)):
                if (
                    client < run.num_clients
                    and _known([row])
                    and count >= most.get((name, client), 0)
                ):
                    found[name][client], most[name, client] = row, count
    return found if most else {}


def _known(rows: Sequence[Cells | None]) -> list[float]:
    return [value for row in rows if row is not None for value in row if value is not None]


def _features(run: RunData) -> str:
    """Return in words what FID and KID are measured by."""
    if run.config.supplement.distance == TORCH_FIDELITY:
        return "the Inception of published FIDs"
    inception = run.config.supplement.distance_file
    return "torchvision's Inception" if inception else "the untrained classifier"


def _colour(name: str) -> Callable[[float], tuple[str, float]]:
    css = "var(--lack)" if name == "near_copies" else "var(--know)"
    return lambda value: (css, min(value, 1.0))


def _text(name: str, value: float) -> str:
    return (
        percent(value, 0)
        if name in ("reading", "near_copies")
        else f"{value:.{_PLACES.get(name, 2)}f}"
    )


def _panel(run: RunData, name: str, rows: Sequence[Cells | None], part: Part) -> Markup:
    names = picked(part.columns, run.class_names)
    picture = heat_map(
        part.of(rows),
        label=f"{_NAMES[name]}, per client and class of {run.name}",
        row_labels=[str(k) for k in part.rows],
        column_labels=names if len(names) <= 30 else [""] * len(names),
        colour=_colour(name),
        text=None,
        tip=lambda k, c, value: (
            f"client {part.rows[k]}, class {names[c]}\n{_NAMES[name].lower()}: {_text(name, value)}"
        ),
        cell=(30.0 if len(names) <= 14 else 12.0, 20.0 if len(part.rows) <= 20 else 10.0),
    )
    body = scroll(picture) if len(names) > 20 else picture
    return Markup("<div><h4>{}</h4>{}</div>").format(_NAMES[name], body)


def _all_classes(run: RunData, told: Mapping[int, Mapping[str, float]], part: Part) -> Markup:
    held = sorted(told)
    clients = [held[index] for index in part.rows]
    rows = [[told[client].get(name) for name in MEASURES] for client in clients]

    def tip(row: int, column: int, value: float) -> str:
        name = MEASURES[column]
        return f"client {clients[row]}\n{_NAMES[name].lower()}: {_text(name, value)}"

    picture = heat_map(
        rows,
        label=f"Quality of the synthetic images per client of {run.name}",
        row_labels=[str(client) for client in clients],
        column_labels=["read", "fidelity", "diversity", "copies"],
        colour=lambda value: ("var(--know)", 0.5 * min(value, 1.0)),
        text=lambda value: f"{value:.2f}",
        tip=tip,
        x_title="all classes together",
        cell=(62.0, 22.0),
    )
    return Markup("<div><h4>All of a client's images</h4>{}</div>").format(picture)


def _caption(told: Mapping[int, Mapping[str, float]], by_class: bool, by: str) -> Markup:
    def mean(name: str) -> str:
        values = [each[name] for each in told.values() if name in each]
        return _text(name, sum(values) / len(values)) if values else _NOT_MEASURED

    far = [f"{name.upper()} {mean(name)}" for name in DISTANCES if mean(name) != _NOT_MEASURED]
    copied = {client: each["near_copies"] for client, each in told.items() if "near_copies" in each}
    worst = max(copied, key=lambda client: copied[client], default=None)
    return caption(
        "Means of the clients, as last measured. <b>Read as meant</b> by the global model: "
        "{reading}. <b>Fidelity</b>: {fidelity} (density among real images of the class: 1 = like "
        "these, 0 = like none). <b>Diversity</b>: {diversity} (distance between two images, 1 = as "
        "between two real ones). <b>Near-copies</b>: {copies}{worst} lie closer to a training "
        "image than {chance} of new real images would. {far}{hatched}",
        reading=mean("reading"),
        fidelity=mean("fidelity"),
        diversity=mean("diversity"),
        copies=mean("near_copies"),
        worst=(
            f", at client {worst} {percent(copied[worst], 0)},"
            if worst is not None and copied[worst] > 0
            else ""
        ),
        chance=percent(CHANCE, 0),
        far=f"By {by}: {', '.join(far)}, against real images of the same classes. " if far else "",
        hatched=(
            f"In the maps, each client's round of most images. Hatched: no synthetic images, or "
            f"fewer than {LEAST} real ones of that class ({LEAST_HELD_OUT} of any, for copies)."
            if by_class
            else "The classes stay private."
        ),
    )
