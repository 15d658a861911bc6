"""Pictures the commands write: label heat map and class grid, in the form of their ending."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch

from regl_app.cli.fonts import drawable
from regl_app.core.files import atomic_path
from regl_app.core.types import Counts

_LARGEST = (48.0, 36.0)
_LEAST_STEP = 0.17


def save_heatmap(counts: Counts, class_names: Sequence[str], path: Path, *, title: str) -> None:
    """Draw ``counts`` (K, C), images per client and class, with the figures in the cells.

    A picture of many classes or clients grows to 48 x 36 inches; of names that are too close
    then only some stand at the axis.
    """
    from matplotlib.figure import Figure
    from matplotlib.font_manager import FontProperties

    clients, classes = counts.shape
    wide = min(2.0 + 0.55 * classes, _LARGEST[0])
    tall = min(1.4 + 0.38 * clients, _LARGEST[1])
    names = drawable(class_names)
    longest = max((len(name.text) for name in names), default=0)
    upright = classes <= 20 and longest <= 6
    if not upright:
        tall += 0.08 * longest
    figure = Figure(figsize=(wide, tall), layout="constrained")
    axes = figure.add_subplot()
    picture = axes.imshow(counts, cmap="Blues", aspect="auto", vmin=0)
    shown = range(0, classes, _every(classes, wide))
    texts = [names[place].text for place in shown]
    axes.set_xticks(list(shown), texts, rotation=0 if upright else 90, parse_math=False)
    for place, tick in zip(shown, axes.get_xticklabels(), strict=True):
        tick.set_fontproperties(FontProperties(fname=names[place].font))
    rows = range(0, clients, _every(clients, tall))
    axes.set_yticks(list(rows), [str(client) for client in rows])
    axes.set(xlabel="class", ylabel="client")
    heading = drawable([title])[0]
    axes.set_title(heading.text, parse_math=False, font=FontProperties(fname=heading.font, size=12))
    if clients * classes <= 600:
        half = counts.max(initial=0) / 2
        for (client, label), count in _cells(counts):
            if count:
                color = "white" if count > half else "black"
                axes.text(label, client, str(count), ha="center", va="center", color=color, size=8)
    figure.colorbar(picture, ax=axes, label="training images")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=150)


def _every(count: int, inches: float) -> int:
    """Return of how many names one can stand at an axis."""
    return max(1, math.ceil(count * _LEAST_STEP / inches))


def _cells(counts: Counts) -> list[tuple[tuple[int, int], int]]:
    clients, classes = counts.shape
    return [((k, c), int(counts[k, c])) for k in range(clients) for c in range(classes)]


def save_grid(images: torch.Tensor, row_names: Sequence[str], path: Path, *, scale: int) -> None:
    """Draw ``images`` (R, n, C, H, W) uint8 as R named rows of n, pixels ``scale`` times as big."""
    from PIL import Image, ImageDraw, ImageFont

    rows, columns, _, height, width = images.shape
    large = images.repeat_interleave(scale, dim=3).repeat_interleave(scale, dim=4)
    gap = 2
    names = drawable(row_names)
    faces = [None if each.text.isascii() else ImageFont.truetype(each.font, 11) for each in names]
    margin = 12 + max(
        7 * len(name.text) if face is None else math.ceil(face.getlength(name.text))
        for name, face in zip(names, faces, strict=True)
    )
    size = (
        margin + columns * (width * scale + gap) + gap,
        rows * (height * scale + gap) + gap,
    )
    canvas = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(canvas)
    for row, (name, face) in enumerate(zip(names, faces, strict=True)):
        top = gap + row * (height * scale + gap)
        draw.text((6, top + height * scale // 2 - 6), name.text, fill="black", font=face)
        for column in range(columns):
            pixels = large[row, column].permute(1, 2, 0).numpy()
            tile = Image.fromarray(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels)
            canvas.paste(tile, (margin + gap + column * (width * scale + gap), top))
    with atomic_path(path) as temporary:
        canvas.save(temporary)
