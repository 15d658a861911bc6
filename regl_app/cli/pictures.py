"""Pictures the commands write: label heat map and class grid, both PNG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from regl_app.core.files import atomic_path
from regl_app.core.types import Counts


def save_heatmap(counts: Counts, class_names: Sequence[str], path: Path, *, title: str) -> None:
    """Draw ``counts`` (K, C), images per client and class, with the figures in the cells."""
    from matplotlib.figure import Figure

    clients, classes = counts.shape
    figure = Figure(figsize=(2.0 + 0.55 * classes, 1.4 + 0.38 * clients), layout="constrained")
    axes = figure.add_subplot()
    picture = axes.imshow(counts, cmap="Blues", aspect="auto", vmin=0)
    axes.set_xticks(range(classes), class_names, rotation=90 if classes > 20 else 0)
    axes.set_yticks(range(clients), [str(client) for client in range(clients)])
    axes.set(xlabel="class", ylabel="client", title=title)
    if clients * classes <= 600:
        half = counts.max(initial=0) / 2
        for (client, label), count in _cells(counts):
            if count:
                color = "white" if count > half else "black"
                axes.text(label, client, str(count), ha="center", va="center", color=color, size=8)
    figure.colorbar(picture, ax=axes, label="training images")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=150)


def _cells(counts: Counts) -> list[tuple[tuple[int, int], int]]:
    clients, classes = counts.shape
    return [((k, c), int(counts[k, c])) for k in range(clients) for c in range(classes)]


def save_grid(images: torch.Tensor, row_names: Sequence[str], path: Path, *, scale: int) -> None:
    """Draw ``images`` (R, n, C, H, W) uint8 as R named rows of n, pixels ``scale`` times as big."""
    from PIL import Image, ImageDraw

    rows, columns, _, height, width = images.shape
    large = images.repeat_interleave(scale, dim=3).repeat_interleave(scale, dim=4)
    gap = 2
    margin = 12 + 7 * max(len(name) for name in row_names)
    size = (
        margin + columns * (width * scale + gap) + gap,
        rows * (height * scale + gap) + gap,
    )
    canvas = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(canvas)
    for row, name in enumerate(row_names):
        top = gap + row * (height * scale + gap)
        draw.text((6, top + height * scale // 2 - 6), name, fill="black")
        for column in range(columns):
            pixels = large[row, column].permute(1, 2, 0).numpy()
            tile = Image.fromarray(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels)
            canvas.paste(tile, (margin + gap + column * (width * scale + gap), top))
    with atomic_path(path) as temporary:
        canvas.save(temporary)
