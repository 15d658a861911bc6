"""A site's own image folder: read at its node only, checked against the federation's classes."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from regl_app.config.name_list import listed
from regl_app.config.sections import DataConfig
from regl_app.core.allowed_folders import AllowedFolders
from regl_app.core.errors import DataError
from regl_app.core.file_states import files_state
from regl_app.core.log import logger
from regl_app.core.readable import readable
from regl_app.core.seeding import numpy_generator
from regl_app.data.absent_classes import listed_classes
from regl_app.data.class_folders import ClassFolders, Found, nothing_found
from regl_app.data.client import ClientData
from regl_app.data.concepts import concepts_of
from regl_app.data.images import ImageSet
from regl_app.data.originals import PictureFiles
from regl_app.data.picture_store import PictureStore
from regl_app.data.read_pictures import PicturesRead, read_pictures, refuse_lost
from regl_app.data.run_pictures import KeptPictures, RunPictures
from regl_app.data.same_files import check_labels
from regl_app.data.source import Source
from regl_app.data.stratified import stratified_sample, validation_places
from regl_app.data.subsets import kept_indices


@dataclass(frozen=True)
class SiteFolder:
    """A node's ``data-dir``, as the operator names it, and the folders that it may lead into."""

    path: Path
    roots: AllowedFolders


def load_server_part(config: DataConfig, store: PictureStore | None = None) -> Source:
    """Return what the server has of sites' data: the classes, and ``data.path`` to test on if set.

    Args:
        config: the run's data keys.
        store: where what any process of this machine has decoded is found; None: nowhere.

    Raises:
        DataError: that folder is absent, lacks a class's name, or holds unreadable files.
    """
    names = config.class_names
    shape = (config.channels, config.image_size, config.image_size)
    test, unreadable, depth = ImageSet.empty(shape), 0, None
    if config.path:
        found = _server_found(config)
        found.left_out.tell(config.path)
        read = _read(found.files, config, store, _server_named(config))
        kept = kept_indices(read.images.labels.numpy(), config, "test")
        test, unreadable, depth = read.images.subset(kept), read.unreadable, read.depth
    train = ImageSet.empty(shape)
    return Source("site", train, test, names, concepts_of(names), unreadable, depth)


def server_files(config: DataConfig) -> tuple[Path, ...]:
    """Return the picture files that the server tests on.

    Raises:
        DataError: their folder is absent, or lacks a class's name.
    """
    return tuple(path for path, _ in _server_found(config).files) if config.path else ()


def _server_found(config: DataConfig) -> Found:
    return _found(Path(config.path), config.class_names, _server_named(config), AllowedFolders())


def _server_named(config: DataConfig) -> str:
    return f"data.path={config.path!r}"


def load_site(
    folder: SiteFolder,
    config: DataConfig,
    partition_id: int,
    test_fraction: float,
    validation_fraction: float = 0.0,
    store: PictureStore | None = None,
    kept: KeptPictures | None = None,
) -> ClientData:
    """Return a site's images, a stratified ``test_fraction`` of them as its own test set.

    Cached per process, until a file of the folder changes. Within a run they are those that it
    began with: new files are left out, with a warning.

    Args:
        folder: one subfolder per class, whose name is in ``data.classes``; it may lack some.
        config: the run's data keys: classes, size, channels, limits, seed of the split.
        partition_id: the client's.
        test_fraction: share of the images to test on; a class's last image is trained on.
        validation_fraction: share of the others that is held out to choose by.
        store: where what any process of this machine has decoded is found; None: nowhere.
        kept: where a run's pictures are kept; None: those that are there now are taken.

    Raises:
        DataError: the folder is absent, empty or outside of what the operator allowed, has a
            subfolder that is no class or one of pictures that are another's by links, or a file
            that cannot be read; names folder and file. Or a file has changed or gone since the run
            began.
        StorageError: which pictures it are cannot be kept.
    """
    root, named = folder.roots.inside(folder.path, "data-dir"), f"data-dir={str(folder.path)!r}"
    begun = kept.read() if kept else None
    with readable(named, DataError):
        if begun is None:
            found = _found(root, config.class_names, named, folder.roots)
            now = RunPictures.of(root, found.files)
            found.left_out.tell_hidden(named)
        else:
            folders = _folders(root, config.class_names, named, folder.roots)
            found, now = folders.pictures(config.class_names).once(), begun
            _tell_new(kept, named, begun.new(root, found.files))
    pictures = now.below(root, named)
    data, lost = _load(
        _Files(pictures, files_state(path for path, _ in pictures), named),
        None if begun is None else begun.unreadable,
        begun is not None,
        found.left_out.words if found.left_out.matters else "",
        config,
        partition_id,
        test_fraction,
        validation_fraction,
        store,
    )
    if kept and begun is None:
        kept.write(replace(now, unreadable=lost))
    return data


@lru_cache(maxsize=1000)
def _tell_new(_kept: KeptPictures | None, named: str, count: int) -> None:
    """Say once in a run that pictures have come."""
    if count:
        logger.warning(
            "%s: %d pictures have come since this run began: they are the next run's", named, count
        )


@dataclass(frozen=True)
class _Files:
    """Picture files and their labels, in a state; equal are those of equal paths and states.

    ``named`` is what errors call their folder.
    """

    found: Sequence[tuple[Path, int]]
    state: str
    named: str


def _load(
    files: _Files, unreadable: tuple[int, ...] | None, told: bool, *how: Any
) -> tuple[ClientData, tuple[int, ...]]:
    """Return what ``_read_and_split`` does, at once if it is among the last two.

    Who does not know yet what is left out gets the same images as who does.
    """
    which = (files, *how)
    for (known, lost), (data, undecoded) in list(_LOADED.items()):  # threads share it
        if known == which and lost == (undecoded if unreadable is None else unreadable):
            return data, lost
    data, lost, undecoded = _read_and_split(files, unreadable, *how, told=told)
    _LOADED[which, lost] = data, undecoded
    for old in list(_LOADED)[:-_LOADED_MOST]:
        _LOADED.pop(old, None)
    return data, lost


_LOADED: dict[tuple[tuple[Any, ...], tuple[int, ...]], tuple[ClientData, tuple[int, ...]]] = {}
"""By files, keys and what is left out: the images, and what could not be decoded."""
_LOADED_MOST = 2


def _read_and_split(
    files: _Files,
    unreadable: tuple[int, ...] | None,
    left_out: str,
    config: DataConfig,
    partition_id: int,
    test_fraction: float,
    validation_fraction: float,
    store: PictureStore | None,
    *,
    told: bool = False,
) -> tuple[ClientData, tuple[int, ...], tuple[int, ...]]:
    """Return the images, the places of the files that are left out, and of those not decoded now.

    ``unreadable`` are those that a run began without; None: whichever they are now. What is odd
    about the pictures is logged unless it was ``told`` before.
    """
    if left_out and not told:
        logger.warning("%s: not read: %s", files.named, left_out)
    classes = config.class_names
    if not told:
        check_labels([(path, classes[label]) for path, label in files.found], files.named)
    read = _read(files.found, config, store, files.named, told=told)
    images = read.images
    undecoded = lost = tuple(sorted(set(range(len(files.found))) - set(read.kept.tolist())))
    if unreadable is not None and unreadable != lost:
        if odd := sorted(set(lost) - set(unreadable)):
            raise DataError(
                f"{files.found[odd[0]][0]}: cannot be read any more, and this run began with it "
                "(make it readable, or start a new run)"
            )
        images = images.subset(np.flatnonzero(~np.isin(read.kept, unreadable)))
        lost = unreadable
    whole = images.counts(len(classes))
    images = images.subset(kept_indices(images.labels.numpy(), config, "train"))
    lacks = (whole > 0) & (images.counts(len(classes)) == 0)
    cut = [classes[label] for label in np.flatnonzero(lacks)]
    if cut and not told:
        logger.warning(
            "%s: no image of %s is used: data.max-train=%d has room for fewer classes (raise it)",
            files.named,
            listed_classes(cut),
            config.max_train,
        )
    rng = numpy_generator(config.seed, "client-test", partition_id)
    wanted = round(test_fraction * len(images))
    chosen = stratified_sample(images.labels.numpy(), wanted, rng, leave_one=True)
    kept = np.delete(np.arange(len(images), dtype=np.int64), chosen)
    held_out, test = None, images.subset(chosen)
    if validation_fraction > 0:
        labels = images.labels.numpy()[kept]
        places = validation_places(labels, validation_fraction, config.seed, partition_id)
        held_out, kept = images.subset(kept[places]), np.delete(kept, places)
    train = images.subset(kept).alone()
    data = ClientData(partition_id, train, test, len(lost), left_out, held_out, read.depth, whole)
    return data, lost, undecoded


def _read(
    found: Sequence[tuple[Path, int]],
    config: DataConfig,
    store: PictureStore | None,
    named: str,
    *,
    told: bool = False,
) -> PicturesRead:
    files = PictureFiles.of_paths(tuple(path for path, _ in found))
    labels = np.array([label for _, label in found], dtype=np.int64)
    read = read_pictures(files, labels, config, config.channels, store, None if told else named)
    refuse_lost(read.images, config.class_names, named, labels)
    return read


def _found(root: Path, names: tuple[str, ...], what: str, roots: AllowedFolders) -> Found:
    """Return the picture files of the classes ``names`` in ``root``, which may lack some."""
    wanted = f"data.classes={listed(names)!r}"
    folders = _folders(root, names, what, roots)
    if not folders.names:
        raise DataError(f"{what} is empty: it has no subfolder; expected some of {wanted}")
    if unknown := sorted(set(folders.names) - set(names)):
        close = difflib.get_close_matches(unknown[0], names, n=1)
        remedy = f"did you mean {close[0]!r}?" if close else "rename it, or move it elsewhere"
        raise DataError(
            f"{what} has the subfolder {unknown[0]!r}, which is not in {wanted} ({remedy})"
        )
    found = folders.pictures(names).once()
    if not found.files:
        raise DataError(nothing_found(found, what))
    # An empty folder is a class that the site lacks; one of other files is a class misread.
    full = [label for label in found.empty if found.by_class[label]]
    if full:
        told = ", ".join(f"{names[label]!r} ({found.by_class[label].words})" for label in full)
        raise DataError(
            f"{what} has classes of whose files not one can be read: {told} (convert them, or move "
            "these folders elsewhere)"
        )
    return found


def _folders(root: Path, names: tuple[str, ...], what: str, roots: AllowedFolders) -> ClassFolders:
    if not root.is_dir():
        raise DataError(
            f"{what} is not a folder; expected one with a subfolder of images per class, of "
            f"data.classes={listed(names)!r}"
        )
    return ClassFolders.of(root, what.partition("=")[0], roots)
