"""Which class is taken for which, as pixels for trackers that show pictures alone."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from regl_app.core.array_files import Array
from regl_app.core.types import Counts

_MOST_NAMED, _MOST_COUNTED = 60, 24


def confusion_picture(counts: Counts, names: Sequence[str]) -> Array:
    """Return ``(H, W, 3)`` uint8: rows true classes, columns answers, colour the share.

    A class whose name matplotlib's font cannot write stands there by its number.
    """
    from matplotlib.figure import Figure
    from matplotlib.font_manager import findfont, get_font

    font = get_font(findfont("DejaVu Sans"))
    classes = len(counts)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = min(3.0 + 0.32 * classes, 14.0)
    figure = Figure(figsize=(side + 0.6, side), dpi=100, layout="constrained")
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0.0, vmax=1.0)
    axes.set_xlabel("taken for")
    axes.set_ylabel("true class")
    if classes <= _MOST_NAMED:
        shown = [
            _short(names[label])
            if label < len(names) and all(font.get_char_index(ord(c)) for c in names[label])
            else str(label)
            for label in range(classes)
        ]
        # A dollar sign in a name is no formula.
        axes.set_xticks(range(classes), shown, rotation=60, ha="right", parse_math=False)
        axes.set_yticks(range(classes), shown, parse_math=False)
    if classes <= _MOST_COUNTED:
        for (row, column), count in np.ndenumerate(counts):
            if count:
                colour = "white" if shares[row, column] > 0.55 else "black"
                axes.text(
                    column, row, str(count), ha="center", va="center", color=colour, fontsize=7
                )
    stream = io.BytesIO()
    figure.savefig(stream, format="png")
    with Image.open(stream) as picture:
        return np.asarray(picture.convert("RGB"))


def _short(name: str) -> str:
    return name if len(name) <= 18 else name[:17] + "…"
