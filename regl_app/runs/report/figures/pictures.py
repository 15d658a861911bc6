"""Real images beside synthetic ones, with and without the client's adapter."""

from __future__ import annotations

import base64
import io

import numpy as np
from markupsafe import Markup
from PIL import Image

from regl_app.core.array_files import Array
from regl_app.core.errors import RunError
from regl_app.core.log import logger
from regl_app.runs.report.figures.base import Absent, Figure, caption, legend, scroll
from regl_app.runs.report.figures.numbers import Numbers
from regl_app.runs.report.run_data import RunData
from regl_app.runs.report.svg import Svg
from regl_app.runs.samples import ClientSamples, load_samples

_TITLE = "Real and synthetic images"
_CLIENTS = 4
_CLASSES = 14
_PER_CLASS = 2
_CELL = 42.0
_KINDS = {
    "real": "real",
    "frozen": "frozen\ngenerator",
    "adapted": "with\nadapter",
    "matched": "in the\nown look",
}


def samples(run: RunData, prefix: str) -> Figure | Absent:
    """Return, for a few clients, rows real / frozen / adapted / matched over a column per class."""
    if not run.samples:
        reason = (
            "sample pictures were kept private (share-diagnostics = false)"
            if not run.config.share_diagnostics
            else f"method {run.config.method} uses no synthetic images"
            if not run.config.uses_generator
            else "the server made the images, and clients left no pictures of them"
            if not run.config.generates_at_client
            else "the clients saved no sample pictures"
        )
        return Absent(_TITLE, reason)
    chosen = _choose(run)
    if not chosen:
        return Absent(_TITLE, "the files of sample pictures cannot be read")
    blocks = [
        Markup("<div><h4>Client {} <span>{}</span></h4>{}</div>").format(
            one.partition_id, _holding(run, one), scroll(_wall(run, one))
        )
        for one in chosen
    ]
    text = caption(
        "A column per class. Dashed columns are classes the client <b>never saw</b>: what stands "
        "there comes from the generator's knowledge of the concept{adapted}.",
        adapted=(
            ", in the look the adapter learned from the client's other classes"
            if any("adapted" in one.sets for one in chosen)
            else ""
        ),
    )
    chips = legend(
        [
            ("class the client holds", "var(--real)", "dot"),
            ("never seen", "var(--synthetic)", "ring"),
        ]
    )
    body = chips + Markup('<div class="walls">{}</div>').format(Markup("").join(blocks))
    numbers = Numbers.of(
        ("client", "class", "holds", "kind", "pictures"),
        [
            (one.partition_id, name, str(_seen(run, one, label)).lower(), kind, len(shown))
            for one in chosen
            for label, name in enumerate(one.class_names)
            for kind in _KINDS
            if kind in one.sets and len(shown := one.of_class(kind, label)[:_PER_CLASS])
        ],
    )
    return Figure(f"{prefix}samples", _TITLE, text, body, numbers, wide=True)


def _choose(run: RunData) -> list[ClientSamples]:
    """Return the samples to show, synthetic ones where there are any; no more files are read."""

    # The showcase client first, then those who lack the most.
    def order(client: int) -> tuple[bool, int, int]:
        held = sum(run.owns(client, label) for label in range(len(run.class_names)))
        return (client != run.showcase_client, held or 10**6, client)

    made: list[ClientSamples] = []
    others: list[ClientSamples] = []
    for client in sorted(run.samples, key=order):
        try:
            one = load_samples(run.samples[client])
        except RunError as error:
            logger.warning("the report goes without a client's sample pictures: %s", error)
            continue
        kind = made if any(k != "real" and len(s) for k, s in one.sets.items()) else others
        if len(kind) < _CLIENTS:
            kind.append(one)
        if len(made) == _CLIENTS:
            break
    return made or others


def _seen(run: RunData, one: ClientSamples, label: int) -> bool:
    return run.owns(one.partition_id, label) or len(one.of_class("real", label)) > 0


def _holding(run: RunData, one: ClientSamples) -> str:
    held = [name for c, name in enumerate(one.class_names) if _seen(run, one, c)]
    shown = ", ".join(held[:8]) + (" …" if len(held) > 8 else "")
    return f"holds {shown}" if held else "holds nothing"


def _wall(run: RunData, one: ClientSamples) -> Markup:
    columns = list(range(len(one.class_names)))
    if len(columns) > _CLASSES:
        held = [c for c in columns if _seen(run, one, c)][: _CLASSES // 2]
        unseen = [c for c in columns if not _seen(run, one, c)]
        columns = sorted(held + unseen[: _CLASSES - len(held)])
    kinds = [kind for kind in _KINDS if kind in one.sets]
    left, head, gap = 66.0, 30.0, 10.0
    block = _CELL * _PER_CLASS
    height = head + len(kinds) * (block + gap)
    svg = Svg(left + _CELL * len(columns) + 4, height)
    for index, label in enumerate(columns):
        x, seen = left + _CELL * index, _seen(run, one, label)
        name = one.class_names[label]
        svg.text(x + _CELL / 2, 13, name if len(name) < 8 else name[:7] + "…", "value mid")
        svg.add("circle", cx=x + _CELL / 2, cy=21, r=3, class_="seen" if seen else "unseen")
        if not seen:
            box = (x + 1, head - 3, _CELL - 2, height - head - 2)
            svg.rect(box, class_="missing", rx=5.0, tip=f"never saw class {name}")
    for row, kind in enumerate(kinds):
        y = head + row * (block + gap)
        lines = _KINDS[kind].split("\n")
        for number, line in enumerate(lines):
            svg.text(0, y + block / 2 + 5 + 15 * (number - (len(lines) - 1) / 2), line, "kind")
        sprite = _sprite(one, kind, columns)
        svg.add(
            "image",
            href=_data_uri(sprite),
            preserveAspectRatio="none",
            x=left,
            y=y,
            width=_CELL * len(columns),
            height=block,
        )
    return svg.render(f"Real and synthetic images of client {one.partition_id}")


def _sprite(one: ClientSamples, kind: str, columns: list[int]) -> Array:
    """Return one transparent picture of all cells, each image with a margin of a tenth."""
    _, height, width = one.sets[kind].shape
    pad = max(2, height // 12)
    tall, wide = height + 2 * pad, width + 2 * pad
    canvas = np.zeros((tall * _PER_CLASS, wide * len(columns), 4), np.uint8)
    for index, label in enumerate(columns):
        for row, image in enumerate(one.of_class(kind, label)[:_PER_CLASS]):
            top, left = row * tall + pad, index * wide + pad
            spot = canvas[top : top + height, left : left + width]
            spot[..., :3] = image.transpose(1, 2, 0)
            spot[..., 3] = 255
    return canvas


def _data_uri(pixels: Array) -> str:
    stream = io.BytesIO()
    grey = bool(
        (pixels[..., 0] == pixels[..., 1]).all() and (pixels[..., 1] == pixels[..., 2]).all()
    )
    kept = pixels[..., [0, 3]] if grey else pixels
    Image.fromarray(kept).save(stream, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()
