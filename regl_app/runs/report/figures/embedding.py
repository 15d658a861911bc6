"""t-SNE of test images' features: are the classes a client never saw kept apart?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

from regl_app.core.array_files import Array
from regl_app.core.formats import percent
from regl_app.runs.features import FeaturesFile, ModelFeatures
from regl_app.runs.report.figures.base import WIDTH, Absent, Figure, caption, legend
from regl_app.runs.report.figures.numbers import Numbers
from regl_app.runs.report.run_data import RunData
from regl_app.runs.report.svg import Svg

_HEIGHT = 400.0
_FEWEST = 12


def embedding(run: RunData, prefix: str) -> Figure | Absent:
    """Return the global model's features of test images, and a client's own model's if known."""
    title = "Features, owned against missing classes"
    stored = run.features
    if stored is None:
        return Absent(title, "the run stored no features")
    if len(stored.labels) < _FEWEST:
        return Absent(title, f"only {len(stored.labels)} test images have features")
    client = _client(run, stored)
    views = [("Global model", stored.global_model)]
    if client is not None and client in stored.local_models:
        views.insert(0, (f"Client {client} after local training", stored.local_models[client]))
    knows = client is not None and bool(run.real)
    owned = np.array([run.owns(client or 0, int(y)) for y in stored.labels]) if knows else None
    placed = [(heading, view, _project(view.features, run.config.seed)) for heading, view in views]
    panels = [
        _panel(run, heading, view, places, stored.labels, owned) for heading, view, places in placed
    ]
    text = caption(
        "t-SNE of the penultimate layer for {n} test images{seen}. Separate islands mean that the "
        "model tells the classes apart; crosses are errors. Distances between islands mean "
        "nothing.{rounds}",
        rounds=(
            f" The global model is that of round {run.model_round}, which is kept; the client's "
            "is of the last round."
            if len(views) > 1 and run.model_round not in (None, run.history[-1].round)
            else ""
        ),
        n=len(stored.labels),
        seen=(
            f": blue classes client {client} owns, orange ones it has never seen" if knows else ""
        ),
    )
    chips = [("owned class", "var(--real)", "dot"), ("missing class", "var(--synthetic)", "dot")]
    marks = legend([*(chips if knows else []), ("error", "var(--ink)", "cross")])
    body = marks + Markup('<div class="{}">{}</div>').format(
        "pair" if len(panels) > 1 else "single", Markup("").join(panels)
    )
    numbers = Numbers.of(
        ("model", "x", "y", "class", "taken for"),
        [
            (heading, float(x), float(y), _name(run.class_names, label), _name(run.class_names, to))
            for heading, view, places in placed
            for (x, y), label, to in zip(places, stored.labels, view.predictions, strict=True)
        ],
    )
    return Figure(f"{prefix}tsne", title, text, body, numbers, wide=len(panels) > 1)


def _client(run: RunData, stored: FeaturesFile) -> int | None:
    """Return whose model is shown: the showcase client's, else whose that owns fewest classes."""
    models, classes = stored.local_models, range(len(run.class_names))
    if not models or run.showcase_client in models:
        return run.showcase_client
    return min(models, key=lambda k: (sum(run.owns(k, c) for c in classes), k))


def _panel(
    run: RunData,
    heading: str,
    view: ModelFeatures,
    places: Array,
    labels: Array,
    owned: Array | None,
) -> Markup:
    """Return one model's scatter at ``places`` (N, 2); ``owned`` (N,): the client has its class."""
    correct = view.predictions == labels
    told = f"{percent(float(correct.mean()), 0)} right"
    if owned is not None and owned.any() and not owned.all():
        told = (
            f"{percent(float(correct[owned].mean()), 0)} right on owned, "
            f"{percent(float(correct[~owned].mean()), 0)} on missing"
        )
    picture = _scatter(places, labels, view.predictions, owned, run.class_names)
    body = picture.render(f"t-SNE of features: {heading} of {run.name}")
    return Markup("<div><h4>{} <span>{}</span></h4>{}</div>").format(heading, told, body)


def _project(features: Array, seed: int) -> Array:
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    spread = features.std()
    scaled = features / spread if spread > 0 else features
    perplexity = min(30.0, (len(features) - 1) / 3)
    start = "pca" if spread > 0 else "random"
    tsne = TSNE(perplexity=perplexity, init=start, max_iter=600, random_state=seed)
    # The points are few: threads that wait for each other on busy cores made it ten times slower.
    with threadpool_limits(1):
        placed: Array = np.asarray(tsne.fit_transform(scaled), np.float64)
    return placed


def _scatter(
    places: Array, labels: Array, guesses: Array, owned: Array | None, names: Sequence[str]
) -> Svg:
    svg = Svg(WIDTH, _HEIGHT)
    svg.add("rect", x=0.5, y=0.5, width=WIDTH - 1, height=_HEIGHT - 1, rx=8.0, class_="plot")
    low, high = places.min(axis=0), places.max(axis=0)
    unit = (places - low) / np.maximum(high - low, 1e-9)
    spots = np.stack(
        [18 + unit[:, 0] * (WIDTH - 36), 18 + (1 - unit[:, 1]) * (_HEIGHT - 36)], axis=1
    )
    known = np.full(len(labels), True) if owned is None else owned
    for (x, y), label, guess, own in zip(spots, labels, guesses, known, strict=True):
        css = "var(--real)" if own else "var(--synthetic)"
        tip = f"{_name(names, label)}, taken for {_name(names, guess)}"
        if label == guess:
            svg.add("circle", cx=x, cy=y, r=3.4, style=f"fill:{css}", class_="point", tip=tip)
        else:
            path = f"M{x - 3.6:.1f} {y - 3.6:.1f}l7.2 7.2m0 -7.2l-7.2 7.2"
            svg.add("path", d=path, style=f"stroke:{css}", class_="error", tip=tip)
    for label in np.unique(labels):
        x, y = np.median(spots[labels == label], axis=0)
        svg.text(float(x), float(y) + 6, _name(names, label)[:10], "cluster mid")
    return svg


def _name(names: Sequence[str], label: int) -> str:
    return names[label] if 0 <= label < len(names) else str(label)
