"""A partition as image folders, such as sites of a deployment have: ``client-00/<class>/``."""

from __future__ import annotations

from collections import Counter
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
    """Write every client's images, its test part included, to ``folder`` as PNG, all or nothing.

    A class whose name is none for a folder, such as ``../up``, gets one that is (``folder_names``);
    the log says which.

    Raises:
        DataError: there is something at ``folder`` already.
    """
    if folder.exists():
        raise DataError(f"{folder} is there already: name a new folder, or remove it")
    classes = federation.source.class_names
    names = folder_names(classes)
    for name, safe in zip(classes, names, strict=True):
        if name != safe:
            logger.warning("class %r is in folders %r", name, safe)
    with atomic_path(folder) as temporary:
        for client in range(federation.num_clients):
            held = federation.client(client)
            site = temporary / f"client-{client:02d}"
            site.mkdir(parents=True)
            _write(ImageSet.concat([held.train, held.test]), names, site)


def _write(images: ImageSet, names: tuple[str, ...], site: Path) -> None:
    from PIL import Image

    written: Counter[int] = Counter()
    pictures = (image for each in portions(images.pixels, _AT_ONCE) for image in each)
    for image, label in zip(pictures, images.labels.tolist(), strict=True):
        written[label] += 1
        folder = site / names[label]
        folder.mkdir(exist_ok=True)
        pixels = image[0] if len(image) == 1 else image.permute(1, 2, 0)
        Image.fromarray(pixels.contiguous().numpy()).save(folder / f"{written[label]:05d}.png")
