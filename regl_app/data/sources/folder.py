"""Any image folder: one subfolder per class, optionally below a training and a test folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from regl_app.config.sections import DataConfig
from regl_app.core.allowed_folders import AllowedFolders
from regl_app.core.errors import DataError
from regl_app.core.log import logger
from regl_app.data.class_folders import ClassFolders, Found, empty_classes, nothing_found
from regl_app.data.concepts import concepts_of
from regl_app.data.originals import PictureFiles
from regl_app.data.picture_store import PictureStore
from regl_app.data.read_pictures import read_pictures, refuse_lost
from regl_app.data.source import Source
from regl_app.data.sources.metadata import NAME, folder_rows
from regl_app.data.subsets import kept_indices, split_off_test

_TRAIN = ("train", "training")
_TEST = ("test", "testing", "val", "valid", "validation", "dev")
"""Names of the part to test on, whatever their case: the first that is there."""


def load_folder(
    config: DataConfig, roots: AllowedFolders | None = None, store: PictureStore | None = None
) -> Source:
    """Return the images below ``data.path``; classes are named by their folders, sorted, in NFC.

    Below ``train/`` (or ``training/``) and ``test/`` (``testing/``, ``val/``, ``valid/``,
    ``validation/``, ``dev/``), in any case, these are the training and the test set. Without them
    a stratified ``data.test-fraction`` becomes the test set.

    Args:
        config: the run's data keys.
        roots: the folders that links may lead into; None: anywhere.
        store: where what any process of this machine has decoded is found; None: nowhere.

    Raises:
        DataError: the folder, its classes or images are absent, or a file is unreadable.
    """
    parts, found, tested = _listed(config, roots)
    parts.tell(found, tested)
    names = parts.train.names
    every = (*found.files, *(tested.files if tested else ()))
    files = PictureFiles.of_paths(tuple(path for path, _ in every))
    labels = np.array([label for _, label in every], dtype=np.int64)
    root, paths = Path(config.path).expanduser(), [path for path, _ in found.files]
    rows = folder_rows(root, parts.train.root, paths, roots)
    read = read_pictures(files, labels, config, store=store)
    train, test = read.split(rows.all())
    refuse_lost(train, names, parts.train.root)
    if tested is None:
        train, test = split_off_test(train, config)
    else:
        train = train.subset(kept_indices(train.labels.numpy(), config, "train"))
        test = test.subset(kept_indices(test.labels.numpy(), config, "test"))
    left_out = found.left_out + tested.left_out if tested else found.left_out
    told = left_out.words if left_out.matters else ""
    return Source(
        root.name, train, test, names, concepts_of(names), read.unreadable, read.depth, told
    )


def folder_files(config: DataConfig, roots: AllowedFolders | None = None) -> tuple[Path, ...]:
    """Return the files that ``load_folder`` reads: pictures in its order, tables of columns.

    Raises:
        DataError: the folder, its classes or images are absent.
    """
    parts, found, tested = _listed(config, roots)
    tables = (folder / NAME for folder in (Path(config.path).expanduser(), parts.train.root))
    pictures = (path for path, _ in (*found.files, *(tested.files if tested else ())))
    return (*pictures, *(table for table in dict.fromkeys(tables) if table.is_file()))


def _listed(config: DataConfig, roots: AllowedFolders | None) -> tuple[_Parts, Found, Found | None]:
    """Return where the classes are, and the picture files to train on and to test on."""
    root = Path(config.path).expanduser()
    if not root.is_dir():
        raise DataError(
            f"data.path={config.path!r} is not a folder; data.source='folder' expects a folder "
            "with one subfolder of images per class, or with train/ and test/ that hold them"
        )
    parts = _parts(ClassFolders.of(root, "data.path", roots))
    names = parts.train.names
    if not names:
        raise DataError(f"{parts.train.root} has no subfolders; expected one subfolder per class")
    found = _found(parts.train, names, complete=True)
    return parts, found, _found(parts.test, names, complete=False) if parts.test else None


@dataclass(frozen=True)
class _Parts:
    """Where the classes to train on are, and to test on if they are apart."""

    train: ClassFolders
    test: ClassFolders | None = None
    used_for: str = ""
    """What of a folder is used for what, in words, where it has such parts."""

    def tell(self, found: Found, tested: Found | None) -> None:
        """Log what is used, and what is not read."""
        if self.used_for:
            logger.info("%s", self.used_for)
        found.left_out.tell(str(self.train.root))
        if self.test and tested:
            tested.left_out.tell(str(self.test.root))


def _parts(top: ClassFolders) -> _Parts:
    train = _one_of(top, _TRAIN[:1]) or _one_of(top, _TRAIN[1:])
    if train is None:
        return _Parts(top)
    inner = ClassFolders.of(train, top.what, top.roots)
    named = {name: path for name in _TEST if (path := _one_of(top, (name,)))}
    others = set(top.names) - {path.name for path in (train, *named.values())}
    tests = [ClassFolders.of(path, top.what, top.roots) for path in named.values()]
    test = next((part for part in tests if part.names), None)
    # Beside other classes 'train' is one itself, as of vehicles.
    if (others and (not inner.names or test is None)) or not (inner.names or named):
        return _Parts(top)
    used = (train.name, test.root.name) if test else (train.name,)
    unused = sorted(set(top.names) - set(used))
    used_for = (
        f"{top.root}: trained on {train.name}/, tested on "
        + (f"{test.root.name}/" if test else "a part of it")
        + (f"; not used: {', '.join(f'{name}/' for name in unused)}" if unused else "")
    )
    if test and (extra := sorted(set(test.names) - set(inner.names))):
        raise DataError(
            f"{test.root} has classes that {train.name}/ lacks: {', '.join(map(repr, extra))}"
        )
    return _Parts(inner, test, used_for)


def _one_of(top: ClassFolders, names: tuple[str, ...]) -> Path | None:
    """Return the one subfolder that is called so in whatever case.

    Raises:
        DataError: there are several.
    """
    found = [
        path for name, paths in top.folders.items() if name.casefold() in names for path in paths
    ]
    if len(found) > 1:
        raise DataError(
            f"{top.root} has {' and '.join(repr(path.name) for path in found)}: which one is "
            "meant? (move the other elsewhere)"
        )
    return found[0] if found else None


def _found(part: ClassFolders, names: tuple[str, ...], *, complete: bool) -> Found:
    """Return a part's picture files; if it is to be ``complete``, every class has one."""
    found = part.pictures(names)
    if not found.files:
        raise DataError(nothing_found(found, str(part.root)))
    if complete and found.empty:
        raise DataError(
            f"{part.root} has classes without an image that can be read: "
            f"{empty_classes(found, names)} (add some, or move these folders elsewhere)"
        )
    return found
