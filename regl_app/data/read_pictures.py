"""From picture files to the set that classifiers see, which remembers larger originals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from regl_app.config.sections import DataConfig
from regl_app.core.errors import DataError
from regl_app.core.log import logger
from regl_app.core.types import Indices, Labels
from regl_app.data.decode import decode_images, first_few
from regl_app.data.depth import UsedDepth
from regl_app.data.images import ImageSet
from regl_app.data.originals import Originals, PictureFiles
from regl_app.data.picture_store import PictureStore
from regl_app.data.pictures import Pictures
from regl_app.data.read_alike import used_depth
from regl_app.data.row_facts import RowFacts
from regl_app.data.squares import Reading


@dataclass(frozen=True, eq=False)
class PicturesRead:
    """The images of the files that could be read, at the places ``kept`` ``(N,)`` among all.

    ``depth`` are the scales by which deep greyscale was read, None if there was none.
    """

    images: ImageSet
    kept: Indices
    unreadable: int = 0
    depth: UsedDepth | None = None

    def split(self, train: RowFacts) -> tuple[ImageSet, ImageSet]:
        """Return the images of the first files, those that ``train`` tells of, and the others."""
        first = len(train.places)
        facts = train.subset(self.kept[self.kept < first])
        part = _part(self.images, self.kept < first)
        return replace(part, facts=facts), _part(self.images, self.kept >= first)


def refuse_lost(
    images: ImageSet, names: Sequence[str], where: Path | str, labels: Labels | None = None
) -> None:
    """Refuse a set that lacks a class of ``names`` (C,), its pictures being unreadable.

    ``labels`` (N,) are those of all files, of which a class may have none; None: each has some.

    Raises:
        DataError: names the classes, and ``where`` they lie.
    """
    absent = images.counts(len(names)) == 0
    if labels is not None:
        absent &= np.isin(np.arange(len(names)), labels)
    if lost := np.flatnonzero(absent).tolist():
        raise DataError(
            f"{where}: no picture of {', '.join(repr(names[place]) for place in lost)} can be read "
            "(repair them, or move the folder elsewhere)"
        )


def read_pictures(
    files: PictureFiles,
    labels: Labels,
    config: DataConfig,
    channels: int | None = None,
    store: PictureStore | None = None,
    named: str | None = "",
) -> PicturesRead:
    """Return ``files`` as images of ``data.image-size``, made squares as ``data.fit`` says.

    Where any picture is larger, the set knows them all by ``originals``. All files of a data set
    are read in one call: deep greyscale becomes 8 bits by one rule for all of them
    (``data.depth``).

    Args:
        files: N encoded pictures.
        labels: their classes, ``(N,)``.
        config: the run's data keys.
        channels: 1 or 3, to have that many; None: 1 if every picture is gray, else 3.
        store: where what any process of this machine has decoded is found; None: nowhere.
        named: what the log calls them, '' where that is plain; None: nothing is logged.

    Raises:
        DataError: names the files that cannot be decoded, unless ``data.unreadable=skip``.
    """
    size, rule = config.image_size, config.fit
    pixels, reading = _decoded(files, config, channels, store)
    if named is not None:
        _tell(reading, len(files), config, f"{named}: " if named else "")
    if reading.problems:
        files, labels = files.subset(reading.kept), labels[reading.kept]
    originals = None
    if len(files) and reading.sides.max() > size:
        everything = np.arange(len(files), dtype=np.int64)
        originals = Originals(
            files, everything, reading.sides, pixels.shape[1], rule, reading.depth
        )
    images = ImageSet(pixels, torch.from_numpy(labels), originals)
    return PicturesRead(images, reading.kept, len(reading.problems), reading.used_depth)


def _decoded(
    files: PictureFiles, config: DataConfig, channels: int | None, store: PictureStore | None
) -> tuple[Pictures, Reading]:
    if store is not None and files.lasting and len(files):
        stored = store.squares(files, config, channels)
        if stored is not None:
            return stored.images, stored.reading
    decoded = decode_images(
        files,
        config.image_size,
        channels,
        config.fit,
        config.depth,
        config.unreadable,
        used_depth(config),
    )
    return decoded.images, decoded


def _part(images: ImageSet, chosen: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> ImageSet:
    part = images.subset(np.flatnonzero(chosen))
    own = part.originals
    if own is None or (len(part) and own.own_sides.max() > part.shape[-1]):
        return part
    return ImageSet(part.pixels, part.labels)


def _tell(decoded: Reading, files: int, config: DataConfig, of: str) -> None:
    if decoded.problems:
        logger.warning(
            "%s%d of %d pictures cannot be read and are left out (data.unreadable=skip):\n%s",
            of,
            len(decoded.problems),
            files,
            "\n".join(first_few(decoded.problems)),
        )
    if decoded.depth is None:
        return
    logger.info(
        "%s%d pictures of deep greyscale: whole numbers are read as %s, floats as %s (%s)",
        of,
        decoded.deep,
        decoded.depth.whole.words,
        decoded.depth.real.words,
        "as the run read them" if used_depth(config) else f"data.depth={config.depth}",
    )
    if decoded.dark:
        logger.warning(
            "%s%d of %d pictures of deep greyscale use less than an eighth of that range, the "
            "first is %s: if they look black or flat, name their range by data.depth "
            "(docs/data.md)",
            of,
            len(decoded.dark),
            decoded.deep,
            decoded.dark[0],
        )
