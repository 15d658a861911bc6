"""t-SNE of test images' features: are the classes a client never saw kept apart?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

from regl_app.core.array_files import Array
from regl_app.core.formats import percent
from regl_app.runs.features import ModelFeatures
from regl_app.runs.report.figures.base import WIDTH, Absent, Figure, caption, legend
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
    client = run.showcase_client
    locals_ = stored.local_models
    if locals_ and client not in locals_:
        held = {k: sum(run.owns(k, c) for c in range(len(run.class_names))) for k in locals_}
        client = min(locals_, key=lambda k: (held[k], k))
    views = [("Global model", stored.global_model)]
    if client is not None and client in locals_:
        views.insert(0, (f"Client {client} after local training", locals_[client]))
    knows = client is not None and bool(run.real)
    owned = np.array([knows and run.owns(client or 0, int(y)) for y in stored.labels])
    panels = []
    for heading, view in views:
        correct = view.predictions == stored.labels
        parts = [f"{percent(float(correct.mean()), 0)} right"]
        if knows and owned.any() and not owned.all():
            parts = [
                f"{percent(float(correct[owned].mean()), 0)} right on owned",
                f"{percent(float(correct[~owned].mean()), 0)} on missing",
            ]
        picture = _scatter(
            _project(view.features, run.config.seed),
            stored.labels,
            view,
            owned,
            knows,
            run,
            heading,
        )
        panels.append(
            Markup("<div><h4>{} <span>{}</span></h4>{}</div>").format(
                heading, ", ".join(parts), picture
            )
        )
    text = caption(
        "t-SNE of the penultimate layer for {n} test images{seen}. Separate islands mean that the "
        "model tells the classes apart; crosses are errors. Distances between islands mean "
        "nothing.",
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
    return Figure(f"{prefix}tsne", title, text, body, wide=len(panels) > 1)


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
    places: Array,
    labels: Array,
    view: ModelFeatures,
    owned: Array,
    knows: bool,
    run: RunData,
    heading: str,
) -> Markup:
    svg = Svg(WIDTH, _HEIGHT)
    svg.add("rect", x=0.5, y=0.5, width=WIDTH - 1, height=_HEIGHT - 1, rx=8.0, class_="plot")
    low, high = places.min(axis=0), places.max(axis=0)
    unit = (places - low) / np.maximum(high - low, 1e-9)
    spots = np.stack(
        [18 + unit[:, 0] * (WIDTH - 36), 18 + (1 - unit[:, 1]) * (_HEIGHT - 36)], axis=1
    )
    names = run.class_names
    for (x, y), label, guess, own in zip(spots, labels, view.predictions, owned, strict=True):
        css = "var(--real)" if own or not knows else "var(--synthetic)"
        tip = f"{_name(names, label)}, taken for {_name(names, guess)}"
        if label == guess:
            svg.add("circle", cx=x, cy=y, r=3.4, style=f"fill:{css}", class_="point", tip=tip)
        else:
            path = f"M{x - 3.6:.1f} {y - 3.6:.1f}l7.2 7.2m0 -7.2l-7.2 7.2"
            svg.add("path", d=path, style=f"stroke:{css}", class_="error", tip=tip)
    for label in np.unique(labels):
        x, y = np.median(spots[labels == label], axis=0)
        svg.text(float(x), float(y) + 6, _name(names, label)[:10], "cluster mid")
    return svg.render(f"t-SNE of features: {heading} of {run.name}")


def _name(names: Sequence[str], label: int) -> str:
    return names[label] if 0 <= label < len(names) else str(label)
