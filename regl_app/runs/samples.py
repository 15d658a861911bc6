"""A client's sample pictures: real, frozen-generator and adapted-generator images per class.

Where its synthetic images take over its own images' look (``supplement.match``), also those that it
trains on, of the classes that it was given any of.

``samples/client-XX.npz`` holds, for each kind present, ``<kind>`` uint8 (n, C, H, W) and
``<kind>_labels`` int64 (n,), and ``class_names``; ``client-XX.png`` shows the same as a grid.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from regl_app.core.array_files import Array, read_arrays, require, write_arrays
from regl_app.core.errors import RunError
from regl_app.core.files import atomic_path
from regl_app.data.images import ImageSet

KINDS = ("real", "frozen", "adapted", "matched")
PER_CLASS = 3
MAX_SIDE = 64

_NAME = re.compile(r"client-(\d+)\.npz")
_GAP = 2
_BACKGROUND = 24


@dataclass(frozen=True)
class ClientSamples:
    """What was saved of one client; a kind that the run does not have is absent from ``sets``."""

    partition_id: int
    class_names: tuple[str, ...]
    sets: Mapping[str, ImageSet]

    def of_class(self, kind: str, label: int) -> Array:
        """Return the images ``(n, C, H, W)`` uint8 of one kind and class; n may be 0."""
        images = self.sets[kind]
        return images.images[images.labels == label].numpy()


def save_samples(
    run_dir: Path,
    partition_id: int,
    *,
    real: ImageSet,
    frozen: ImageSet | None,
    adapted: ImageSet | None,
    matched: ImageSet | None = None,
    class_names: Sequence[str],
) -> Path:
    """Write at most three images per kind and class as npz and PNG; return the npz' path.

    Images larger than 64 pixels are shrunk: they are for looking at.
    """
    given = {"real": real, "frozen": frozen, "adapted": adapted, "matched": matched}
    sets = {kind: _first_of_each(images) for kind, images in given.items() if images is not None}
    samples = ClientSamples(partition_id, tuple(class_names), sets)
    path = run_dir / "samples" / f"client-{partition_id:02d}.npz"
    arrays: dict[str, Array] = {"class_names": np.array(samples.class_names, dtype=np.str_)}
    for kind, images in sets.items():
        arrays[kind] = images.images.numpy()
        arrays[f"{kind}_labels"] = images.labels.numpy()
    _parse(path, partition_id, arrays)  # never write what could not be read back
    write_arrays(path, arrays)
    with atomic_path(path.with_suffix(".png")) as temporary:
        Image.fromarray(sample_grid(samples)).save(temporary, optimize=True)
    return path


def load_samples(path: Path) -> ClientSamples:
    """Return the samples in ``client-XX.npz``.

    Raises:
        RunError: the name or the content is not that of a sample file.
    """
    match = _NAME.fullmatch(path.name)
    if match is None:
        raise RunError(f"{path}: a sample file must be called client-<id>.npz")
    return _parse(path, int(match[1]), read_arrays(path))


def sample_files(run_dir: Path) -> dict[int, Path]:
    """Return the file of every client that saved samples, ordered by client; none is read."""
    found = {
        int(match[1]): path
        for path in (run_dir / "samples").glob("client-*.npz")
        if (match := _NAME.fullmatch(path.name))
    }
    return dict(sorted(found.items()))


def sample_grid(samples: ClientSamples) -> Array:
    """Return one picture ``(H, W, 3)`` uint8: a block of rows per kind, a column per class."""
    channels, height, width = next(iter(samples.sets.values())).shape
    columns = len(samples.class_names)
    blocks = []
    for kind in samples.sets:
        block = np.full(
            (PER_CLASS * (height + _GAP), columns * (width + _GAP), 3), _BACKGROUND, np.uint8
        )
        for label in range(columns):
            for row, image in enumerate(samples.of_class(kind, label)[:PER_CLASS]):
                top, left = row * (height + _GAP), label * (width + _GAP)
                pixels = np.broadcast_to(
                    image.transpose(1, 2, 0), (height, width, 3 if channels == 1 else channels)
                )
                block[top : top + height, left : left + width] = pixels
        blocks.append(block)
    gap = np.full((3 * _GAP, blocks[0].shape[1], 3), _BACKGROUND, np.uint8)
    parts = [part for block in blocks for part in (block, gap)]
    return np.concatenate(parts[:-1])


def _first_of_each(images: ImageSet) -> ImageSet:
    seen: dict[int, int] = {}
    chosen = []
    for index, label in enumerate(images.labels.tolist()):
        if seen.get(label, 0) < PER_CLASS:
            seen[label] = seen.get(label, 0) + 1
            chosen.append(index)
    few = images.subset(chosen)
    side = max(images.shape[1:])
    if side <= MAX_SIDE or not len(few):
        return few
    size = [max(1, edge * MAX_SIDE // side) for edge in images.shape[1:]]
    shrunk = torch.nn.functional.interpolate(few.images.float(), size, mode="area")
    return ImageSet(shrunk.round().clamp(0, 255).to(torch.uint8), few.labels)


def _parse(path: Path, partition_id: int, arrays: Mapping[str, Array]) -> ClientSamples:
    names = arrays.get("class_names")
    if names is None or names.ndim != 1 or names.dtype.kind != "U":
        raise RunError(f"{path}: must hold class_names, a list of texts")
    sets = {}
    for kind in KINDS:
        if kind not in arrays:
            continue
        images = require(path, arrays, kind, "uint8", 4)
        labels = require(path, arrays, f"{kind}_labels", "int64", 1)
        if len(images) != len(labels) or images.shape[1] not in (1, 3):
            raise RunError(
                f"{path}: {kind} must be (n, 1 or 3, H, W) with n labels, got {images.shape} "
                f"and {labels.shape}"
            )
        if len(labels) and not (labels.min() >= 0 and labels.max() < len(names)):
            raise RunError(f"{path}: {kind}_labels must be in 0..{len(names) - 1}")
        sets[kind] = ImageSet(torch.from_numpy(images), torch.from_numpy(labels))
    if "real" not in sets:
        raise RunError(f"{path}: must hold real images (their number may be 0)")
    # Frozen and adapted images must be shown side by side with the real ones.
    shapes = {kind: images.shape for kind, images in sets.items() if len(images)}
    if len(set(shapes.values())) > 1:
        raise RunError(f"{path}: images of different shapes: {shapes}")
    return ClientSamples(partition_id, tuple(str(name) for name in names), sets)
