"""Image folders of several domains: ``<domain>/<class>/``, the domain being a column."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np

from regl_app.config.sections import DataConfig
from regl_app.core.allowed_folders import AllowedFolders
from regl_app.core.errors import DataError
from regl_app.data.class_folders import ClassFolders, LeftOut
from regl_app.data.concepts import concepts_of
from regl_app.data.originals import PictureFiles
from regl_app.data.picture_store import PictureStore
from regl_app.data.read_pictures import read_pictures, refuse_lost
from regl_app.data.row_facts import DataSetRows
from regl_app.data.same_files import check_labels, each_once
from regl_app.data.source import Source
from regl_app.data.sources.data_root import data_root, not_laid_out, own_folder
from regl_app.data.subsets import split_off_test

COLUMN = "domain"


@dataclass(frozen=True)
class Domains:
    """A data set known by name: how its folder may be called, and its domains."""

    folders: tuple[str, ...]
    domains: tuple[str, ...]


FAMILY: Mapping[str, Domains] = MappingProxyType(
    {
        "pacs": Domains(("PACS", "pacs"), ("art_painting", "cartoon", "photo", "sketch")),
        "office-home": Domains(
            ("OfficeHomeDataset_10072016", "OfficeHome", "office_home", "office-home"),
            ("Art", "Clipart", "Product", "Real World"),
        ),
    }
)


def load_domains(
    config: DataConfig,
    roots: AllowedFolders | None = None,
    store: PictureStore | None = None,
) -> Source:
    """Return the pictures below ``data.path/<domain>/<class>/``; the column 'domain' says whence.

    A class may be absent in a domain. A stratified ``data.test-fraction`` of all domains becomes
    the test set.

    Raises:
        DataError: folders are absent or hold no picture, a file is unreadable, or all of a class
            in one domain is another's by links.
    """
    found = _listed(config, roots)
    found.left_out.tell(str(found.root))
    held = zip(found.files, found.whence, found.labels, strict=True)
    classes = [(path, f"{domain}/{found.names[label]}") for path, domain, label in held]
    check_labels(classes, str(found.root))
    labels = np.array(found.labels, dtype=np.int64)
    read = read_pictures(PictureFiles.of_paths(found.files), labels, config, store=store)
    relative = tuple(path.relative_to(found.root).as_posix() for path in found.files)
    rows = DataSetRows(len(found.files), (COLUMN,), lambda _: found.whence, relative)
    whole, _ = read.split(rows.all())
    refuse_lost(whole, found.names, found.root)
    train, test = split_off_test(whole, config)
    told = found.left_out.words if found.left_out.matters else ""
    name = config.source if config.source in FAMILY else found.root.name
    concepts = concepts_of(found.names)
    return Source(name, train, test, found.names, concepts, read.unreadable, read.depth, told)


def domain_files(config: DataConfig, roots: AllowedFolders | None = None) -> tuple[Path, ...]:
    """Return the files that ``load_domains`` reads, in its order.

    Raises:
        DataError: folders are absent or hold no picture.
    """
    return _listed(config, roots).files


@dataclass(frozen=True)
class _Listed:
    """The pictures of all domains with label and domain, the classes, and what is not read."""

    root: Path
    names: tuple[str, ...]
    files: tuple[Path, ...]
    labels: Sequence[int]
    whence: Sequence[str]
    left_out: LeftOut


def _listed(config: DataConfig, roots: AllowedFolders | None) -> _Listed:
    family = FAMILY.get(config.source)
    root = own_folder(config, *family.folders) if family else data_root(config)
    if not root.is_dir():
        raise not_laid_out(config, root, "everything: it is no folder")
    top = ClassFolders.of(root, "data.path", roots)
    domains = _known(top, config, root, family) if family else dict(top.folders)
    parts = [
        (domain, ClassFolders.of(path, "data.path", top.roots))
        for domain, paths in domains.items()
        for path in paths
    ]
    names = tuple(sorted({name for _, part in parts for name in part.names}))
    if len(domains) < 2 or len(names) < 2:
        raise not_laid_out(
            config, root, f"<domain>/<class>/ ({len(domains)} domains, {len(names)} classes)"
        )
    placed: list[tuple[Path, tuple[str, int]]] = []
    left_out = LeftOut()
    for domain, part in parts:
        found = part.pictures(names)
        left_out += found.left_out
        placed += [(path, (domain, label)) for path, label in found.files]
    placed = each_once(placed)
    files = tuple(path for path, _ in placed)
    whence = [domain for _, (domain, _) in placed]
    labels = [label for _, (_, label) in placed]
    if lost := sorted(set(range(len(names))) - set(labels)):
        raise DataError(
            f"{root}: no domain has a picture of {', '.join(repr(names[each]) for each in lost)} "
            "(add some, or move these folders elsewhere)"
        )
    return _Listed(root, names, files, labels, whence, left_out)


def _known(
    top: ClassFolders, config: DataConfig, root: Path, family: Domains
) -> dict[str, tuple[Path, ...]]:
    """Return the family's domains, whose names may be written in other cases, with '_' or '-'."""
    there: dict[str, tuple[Path, ...]] = {}
    for name, paths in top.folders.items():  # one name in two cases is one domain
        there[_plain(name)] = (*there.get(_plain(name), ()), *paths)
    if missing := [name for name in family.domains if _plain(name) not in there]:
        raise not_laid_out(config, root, f"the domains {', '.join(map(repr, missing))}")
    return {name: there[_plain(name)] for name in family.domains}


def _plain(name: str) -> str:
    return "".join(letter for letter in name.casefold() if letter.isalnum())
