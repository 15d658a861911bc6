"""Tiny ImageNet as it is published: pictures by WordNet id, words for the ids in ``words.txt``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from regl_app.config.sections import DataConfig
from regl_app.core.allowed_folders import AllowedFolders
from regl_app.core.errors import DataError
from regl_app.data.class_folders import ClassFolders, empty_classes
from regl_app.data.concepts import concepts_of
from regl_app.data.originals import PictureFiles
from regl_app.data.picture_store import PictureStore
from regl_app.data.read_pictures import read_pictures, refuse_lost
from regl_app.data.row_facts import DataSetRows
from regl_app.data.source import Source
from regl_app.data.sources.data_root import not_laid_out, own_folder
from regl_app.data.subsets import kept_indices

_ANNOTATIONS, _WORDS = "val_annotations.txt", "words.txt"


def load_tiny_imagenet(
    config: DataConfig,
    roots: AllowedFolders | None = None,
    store: PictureStore | None = None,
) -> Source:
    """Return Tiny ImageNet from ``data.path`` or ``tiny-imagenet-200/`` in it.

    Trained on ``train/<id>/images/``, tested on ``val/images/`` by ``val/val_annotations.txt``, or
    on ``val/<id>/`` where these were sorted; ``test/`` has no labels. Classes are in the order of
    their ids and bear the first of their words, all of them where two classes share it.

    Raises:
        DataError: it is not laid out like that, or a file is unreadable.
    """
    listed, allowed = _listed(config, roots), roots or AllowedFolders()
    root, ids = listed.root, listed.ids
    paths = [path for path, _ in listed.train]
    every = [*listed.train, *listed.test]
    read = read_pictures(
        PictureFiles.of_paths(tuple(path for path, _ in every)),
        np.array([label for _, label in every], dtype=np.int64),
        config,
        store=store,
    )
    relative = tuple(path.relative_to(root).as_posix() for path in paths)
    train, test = read.split(DataSetRows(len(paths), files=relative).all())
    refuse_lost(train, ids, root / "train")
    train = train.subset(kept_indices(train.labels.numpy(), config, "train"))
    test = test.subset(kept_indices(test.labels.numpy(), config, "test"))
    names = _names(root / _WORDS, ids, allowed)
    concepts = concepts_of(names, article=True)
    return Source("tiny-imagenet", train, test, names, concepts, read.unreadable, read.depth)


def tiny_imagenet_files(
    config: DataConfig, roots: AllowedFolders | None = None
) -> tuple[Path, ...]:
    """Return the files that ``load_tiny_imagenet`` reads: pictures in its order, lists of them.

    Raises:
        DataError: it is not laid out like that.
    """
    listed = _listed(config, roots)
    lists = (listed.root / "val" / _ANNOTATIONS, listed.root / _WORDS)
    pictures = (path for path, _ in (*listed.train, *listed.test))
    return (*pictures, *(path for path in lists if path.is_file()))


@dataclass(frozen=True)
class _Listed:
    """Where the set lies, its classes' ids, and its pictures with their labels."""

    root: Path
    ids: tuple[str, ...]
    train: Sequence[tuple[Path, int]]
    test: Sequence[tuple[Path, int]]


def _listed(config: DataConfig, roots: AllowedFolders | None) -> _Listed:
    root = own_folder(config, "tiny-imagenet-200")
    if missing := [n for n in ("train", "val", _WORDS) if not (root / n).exists()]:
        raise not_laid_out(config, root, ", ".join(missing))
    folders = ClassFolders.of(root / "train", "data.path", roots)
    ids = folders.names
    found = folders.pictures(ids).once()
    if not ids or found.empty:
        raise not_laid_out(config, root, f"pictures of {empty_classes(found, ids) or 'any class'}")
    tested = _tested(config, root, ids, roots or AllowedFolders())
    return _Listed(root, ids, found.files, tested)


def _tested(
    config: DataConfig, root: Path, ids: tuple[str, ...], roots: AllowedFolders
) -> list[tuple[Path, int]]:
    listed = root / "val" / _ANNOTATIONS
    if not listed.is_file():
        found = ClassFolders.of(root / "val", "data.path", roots).pictures(ids)
        if not found.files:
            raise not_laid_out(config, root, f"val/{_ANNOTATIONS}")
        return list(found.files)
    label_of = {name: label for label, name in enumerate(ids)}
    tested = []
    for number, line in enumerate(_lines(listed, roots), start=1):
        name, _, rest = line.partition("\t")
        wordnet, path = rest.partition("\t")[0].strip(), root / "val" / "images" / name
        if not name or "/" in name or wordnet not in label_of:
            raise DataError(
                f"{listed}, line {number}: must be a picture's name, a tab and the id of a class "
                f"of train/, got {line[:100]!r} (unpack the file again)"
            )
        if not path.is_file():
            raise DataError(
                f"{listed}, line {number}: {name!r} is not in val/images (unpack it again)"
            )
        roots.inside(path, "a file of data.path")
        tested.append((path, label_of[wordnet]))
    return tested


def _names(path: Path, ids: tuple[str, ...], roots: AllowedFolders) -> tuple[str, ...]:
    words = dict(line.split("\t", 1) for line in _lines(path, roots) if "\t" in line)
    if missing := [name for name in ids if not words.get(name, "").strip()]:
        raise DataError(f"{path} has no words for {', '.join(missing[:5])} (unpack it again)")
    first = {name: words[name].split(",")[0].strip() for name in ids}
    shared = Counter(first.values())
    return tuple(
        first[name] if shared[first[name]] == 1 else f"{words[name].strip()} ({name})"
        for name in ids
    )


def _lines(path: Path, roots: AllowedFolders) -> list[str]:
    roots.inside(path, "a file of data.path")
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error} (unpack it again)") from error
