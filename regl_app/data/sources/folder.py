"""Any image folder: one subfolder per class, optionally below a training and a test folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from regl_app.config.sections import DataConfig
from regl_app.core.allowed_folders import AllowedFolders
from regl_app.core.errors import DataError
from regl_app.data.class_folders import ClassFolders, Found, empty_classes, nothing_found
from regl_app.data.concepts import concepts_of
from regl_app.data.originals import PictureFiles
from regl_app.data.picture_store import PictureStore
from regl_app.data.read_pictures import read_pictures, refuse_lost
from regl_app.data.source import Source
from regl_app.data.sources.folder_parts import Parts
from regl_app.data.sources.metadata import NAME, folder_rows
from regl_app.data.subsets import kept_indices, split_off_test

_PACKED = frozenset(
    {".zip", ".tar", ".tgz", ".gz", ".tbz", ".bz2", ".txz", ".xz", ".7z", ".rar", ".zst"}
)
_TABLES = frozenset({".csv", ".tsv", ".parquet", ".json", ".jsonl", ".xlsx"})


def load_folder(
    config: DataConfig, roots: AllowedFolders | None = None, store: PictureStore | None = None
) -> Source:
    """Return the images below ``data.path``; classes are named by their folders, sorted, in NFC.

    Below ``train/`` and ``test/``, or what else such parts are called (``Parts``), these are the
    training and the test set. Without them a stratified ``data.test-fraction`` becomes the test
    set.

    Args:
        config: the run's data keys.
        roots: the folders that links may lead into; None: anywhere.
        store: where what any process of this machine has decoded is found; None: nowhere.

    Raises:
        DataError: the folder, its classes or images are absent, a file is unreadable, what is
            tested on is what is trained on, or all of a class is another's by links.
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


def _instead(place: Path) -> str:
    """Return what there is in a folder's place, and what to do with it, in words."""
    if not place.is_file():
        return ""
    ending = place.suffix.lower()
    if ending in _PACKED:
        return f" ({place.name} has to be unpacked first)"
    if ending in _TABLES:
        return f" ({place.name} may be a table, and docs/data.md says how such are read)"
    return " but a file"


def _listed(config: DataConfig, roots: AllowedFolders | None) -> tuple[Parts, Found, Found | None]:
    """Return where the classes are, and the picture files to train on and to test on."""
    root = Path(config.path).expanduser()
    if not root.is_dir():
        raise DataError(
            f"data.path={config.path!r} is not a folder{_instead(root)}; data.source='folder' "
            "expects a folder with one subfolder of images per class, or with train/ and test/ "
            "that hold them"
        )
    parts = Parts.of(ClassFolders.of(root, "data.path", roots))
    names = parts.train.names
    if not names:
        raise DataError(
            f"data.path={config.path!r}: {parts.train.root} has no subfolders; expected one "
            "subfolder of pictures per class (labels that are in a table: docs/data.md)"
        )
    found = _found(parts.train, names, complete=True)
    return parts, found, _found(parts.test, names, complete=False) if parts.test else None


def _found(part: ClassFolders, names: tuple[str, ...], *, complete: bool) -> Found:
    """Return a part's picture files; if it is to be ``complete``, every class has one."""
    found = part.pictures(names).once()
    if not found.files:
        raise DataError(nothing_found(found, str(part.root)))
    if complete and found.empty:
        raise DataError(
            f"{part.root} has classes without an image that can be read: "
            f"{empty_classes(found, names)} (add some, or move these folders elsewhere)"
        )
    return found
