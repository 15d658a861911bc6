"""A site's own image folder: read at its node only, checked against the federation's classes."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from regl_app.config.sections import DataConfig
from regl_app.core.allowed_folders import AllowedFolders
from regl_app.core.errors import DataError
from regl_app.core.seeding import numpy_generator
from regl_app.data.client import ClientData
from regl_app.data.concepts import concepts_of
from regl_app.data.images import ImageSet
from regl_app.data.originals import PictureFiles
from regl_app.data.read_pictures import read_pictures
from regl_app.data.source import Source
from regl_app.data.sources.folder import image_files, subfolders
from regl_app.data.stratified import stratified_sample
from regl_app.data.subsets import kept_indices


@dataclass(frozen=True)
class SiteFolder:
    """A node's ``data-dir``, as the operator names it, and the folders that it may lead into."""

    path: Path
    roots: AllowedFolders


def load_server_part(config: DataConfig) -> Source:
    """Return what the server has of sites' data: the classes, and ``data.path`` to test on if set.

    Raises:
        DataError: that folder is absent, lacks a class's name, or holds unreadable files.
    """
    names = config.class_names
    shape = (config.channels, config.image_size, config.image_size)
    test = ImageSet.empty(shape)
    if config.path:
        root = Path(config.path)
        _check_folder(root, names, f"data.path={config.path!r}")
        test = _read(image_files(root, names), config)
        test = test.subset(kept_indices(test.labels.numpy(), config, "test"))
    return Source("site", ImageSet.empty(shape), test, names, concepts_of(names))


def load_site(
    folder: SiteFolder, config: DataConfig, partition_id: int, test_fraction: float
) -> ClientData:
    """Return a site's images, a stratified ``test_fraction`` of them as its own test set.

    Cached per process, until a file of the folder changes.

    Args:
        folder: one subfolder per class, whose name is in ``data.classes``; it may lack some.
        config: the run's data keys: classes, size, channels, limits, seed of the split.
        partition_id: the client's.
        test_fraction: share of the images to test on; a class's last image is trained on.

    Raises:
        DataError: the folder is absent, empty or outside of what the operator allowed, has a
            subfolder that is no class, or a file that cannot be read; names folder and file.
    """
    root = folder.roots.inside(folder.path, "data-dir")
    _check_folder(root, config.class_names, f"data-dir={str(folder.path)!r}")
    files = image_files(root, config.class_names)
    for path, _ in files:
        folder.roots.inside(path, "a file of data-dir")
    print_of_files = tuple(_state(path, label) for path, label in files)
    return _load(print_of_files, config, partition_id, test_fraction)


_FileState = tuple[str, int, int, int]


def _state(path: Path, label: int) -> _FileState:
    found = path.stat()
    return str(path), label, found.st_size, found.st_mtime_ns


@lru_cache(maxsize=2)
def _load(
    files: tuple[_FileState, ...], config: DataConfig, partition_id: int, test_fraction: float
) -> ClientData:
    images = _read([(Path(path), label) for path, label, _, _ in files], config)
    images = images.subset(kept_indices(images.labels.numpy(), config, "train"))
    rng = numpy_generator(config.seed, "client-test", partition_id)
    wanted = round(test_fraction * len(images))
    chosen = stratified_sample(images.labels.numpy(), wanted, rng, leave_one=True)
    kept = np.delete(np.arange(len(images), dtype=np.int64), chosen)
    return ClientData(partition_id, images.subset(kept).alone(), images.subset(chosen))


def _read(found: list[tuple[Path, int]], config: DataConfig) -> ImageSet:
    files = PictureFiles.of_paths(tuple(path for path, _ in found))
    labels = np.array([label for _, label in found], dtype=np.int64)
    return read_pictures(files, labels, config, config.channels).images


def _check_folder(root: Path, names: tuple[str, ...], what: str) -> None:
    if not root.is_dir():
        raise DataError(
            f"{what} is not a folder; expected one with a subfolder of images per class, of "
            f"data.classes={','.join(names)!r}"
        )
    found = subfolders(root)
    if not found:
        raise DataError(
            f"{what} is empty: it has no subfolder; expected some of "
            f"data.classes={','.join(names)!r}"
        )
    if unknown := sorted(set(found) - set(names)):
        close = difflib.get_close_matches(unknown[0], names, n=1)
        remedy = f"did you mean {close[0]!r}?" if close else "rename it, or move it elsewhere"
        raise DataError(
            f"{what} has the subfolder {unknown[0]!r}, which is not in "
            f"data.classes={','.join(names)!r} ({remedy})"
        )
