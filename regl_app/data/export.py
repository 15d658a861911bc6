"""Images as folders: a partition, such as sites of a deployment have, or what a run has made."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from regl_app.core.errors import DataError
from regl_app.core.files import atomic_path
from regl_app.core.log import logger
from regl_app.data.federation import Federation
from regl_app.data.folder_names import folder_names
from regl_app.data.images import ImageSet
from regl_app.data.pictures import portions

_AT_ONCE = 256


def export_clients(federation: Federation, folder: Path) -> None:
    """Write every client's images, what it tests and chooses by included, all or nothing.

    They are ``client-00/<class>/00001.png`` in ``folder``. A class whose name is none for a
    folder, such as ``../up``, gets one that is (``folder_names``); the log says which.

    Raises:
        DataError: there is something at ``folder`` already.
    """
    names = _folders(folder, federation.source.class_names)
    with atomic_path(folder) as temporary:
        for client, part in enumerate(federation.parts()):
            site = temporary / f"client-{client:02d}"
            site.mkdir(parents=True)
            _write(federation.source.train.subset(part), names, site)


def export_images(
    parts: Iterable[tuple[int, ImageSet]], class_names: Sequence[str], folder: Path
) -> int:
    """Write clients' images to ``folder`` as ``<class>/client-00-00001.png``, all or nothing.

    torchvision's ``ImageFolder`` reads such a folder, as does ``datasets`` by "imagefolder".
    Returns how many there are.

    Raises:
        DataError: there is something at ``folder`` already.
    """
    names, total = _folders(folder, class_names), 0
    with atomic_path(folder) as temporary:
        temporary.mkdir(parents=True)
        for client, images in parts:
            _write(images, names, temporary, f"client-{client:02d}-")
            total += len(images)
    return total


def _folders(folder: Path, class_names: Sequence[str]) -> tuple[str, ...]:
    """Return the names of classes' folders in ``folder``, which is not there yet."""
    if folder.exists():
        raise DataError(f"{folder} is there already: name a new folder, or remove it")
    names = folder_names(class_names)
    for name, safe in zip(class_names, names, strict=True):
        if name != safe:
            logger.warning("class %r is in folders %r", name, safe)
    return names


def _write(images: ImageSet, names: tuple[str, ...], site: Path, prefix: str = "") -> None:
    from PIL import Image

    written: Counter[int] = Counter()
    pictures = (image for each in portions(images.pixels, _AT_ONCE) for image in each)
    for image, label in zip(pictures, images.labels.tolist(), strict=True):
        written[label] += 1
        folder = site / names[label]
        folder.mkdir(exist_ok=True)
        pixels = image[0] if len(image) == 1 else image.permute(1, 2, 0)
        Image.fromarray(pixels.contiguous().numpy()).save(
            folder / f"{prefix}{written[label]:05d}.png"
        )
