"""Which subfolders of an image folder are classes, which are parts to train and to test on."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from regl_app.core.errors import DataError
from regl_app.core.log import logger
from regl_app.data.class_folders import ClassFolders, Found
from regl_app.data.leftovers import is_leftover
from regl_app.data.picture_formats import ending_of, endings
from regl_app.data.same_files import check_labels, same_files

_TRAIN = ("train", "training")
_TEST = ("test", "testing", "val", "valid", "validation", "dev", "eval", "evaluation")
"""Names of the part to test on, whatever their case: the first that is there."""
_AROUND = frozenset({"set", "seg", "data", "dataset", "image", "images", "pictures", "split"})
"""Words that names of parts have around them: training_set, seg_test, Train Images."""
_OTHER_PARTS = ("holdout", "fold", "split")
_TOLD, _DEEPEST = 5, 20


@dataclass(frozen=True)
class Parts:
    """Where the classes to train on are, and to test on if they are apart."""

    train: ClassFolders
    test: ClassFolders | None = None
    used_for: str = ""
    """What of a folder is used for what, in words, where it has such parts."""
    doubt: str = ""
    """Why its subfolders may be no classes, in words."""

    @classmethod
    def of(cls, top: ClassFolders) -> Parts:
        """Return the parts of ``top``, whose own subfolders are classes where it has none.

        Raises:
            DataError: it is doubtful what is a part, or what looks like classes is none.
        """
        parts = _parts(top)
        if len(parts.train.names) == 1:  # which will do to measure on
            return replace(parts, doubt=_around(parts.train, top))
        return replace(parts, doubt=_doubt(top)) if parts.train is top else parts

    def tell(self, found: Found, tested: Found | None) -> None:
        """Log what is used, what is not read, and what is on both sides or in two classes.

        Raises:
            DataError: all that is tested on is trained on, or all of a class is another's.
        """
        if self.used_for:
            logger.info("%s", self.used_for)
        if self.doubt:
            logger.warning("%s", self.doubt)
        found.left_out.tell(str(self.train.root))
        names = self.train.names
        classes = [(path, names[label]) for path, label in found.files]
        check_labels(classes, str(self.train.root))
        if self.test and tested:
            tested.left_out.tell(str(self.test.root))
            _check_apart(self.test.root, found, tested)


def _parts(top: ClassFolders) -> Parts:
    train = _first_of(top, _TRAIN)
    if train is None:
        return Parts(top)
    inner = ClassFolders.of(train, top.what, top.roots)
    found = (_one_of(top, name, called) for called in (str.casefold, _around_it) for name in _TEST)
    named = list(dict.fromkeys(path for path in found if path and path != train))
    others = set(top.names) - {path.name for path in (train, *named)}
    tests = [ClassFolders.of(path, top.what, top.roots) for path in named]
    test = next((part for part in tests if part.names), None)
    # Beside other classes 'train' is one itself, as of vehicles.
    if (others and (not inner.names or test is None)) or not (inner.names or named):
        return Parts(top)
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
    return Parts(inner, test, used_for)


def _first_of(top: ClassFolders, names: Sequence[str]) -> Path | None:
    """Return the subfolder of the first of ``names`` that is there; plain names come first."""
    found = (_one_of(top, name, called) for called in (str.casefold, _around_it) for name in names)
    return next((path for path in found if path), None)


def _one_of(top: ClassFolders, name: str, called: Callable[[str], str]) -> Path | None:
    """Return the one subfolder that is ``called`` so.

    Raises:
        DataError: there are several.
    """
    found = [path for own, paths in top.folders.items() if called(own) == name for path in paths]
    if len(found) > 1:
        raise DataError(
            f"{top.root} has {' and '.join(repr(path.name) for path in found)}: which one is "
            "meant? (move the other elsewhere)"
        )
    return found[0] if found else None


def _word(name: str) -> str:
    """Return what a part is called without the words around it; '' if that is no single word."""
    words = [word for word in re.findall(r"[^\W_]+", name.casefold()) if word not in _AROUND]
    return words[0].removesuffix("set") if len(words) == 1 else ""


def _around_it(name: str) -> str:
    """Return the word of a name with others around it; '' for a plain one, found before."""
    return "" if name.casefold() in (*_TRAIN, *_TEST) else _word(name)


def _is_part(name: str) -> bool:
    """Return whether a folder's name says that it is a part of a set, numbered perhaps."""
    word = re.sub(r"[\W\d_]+$", "", name.casefold())
    return (_word(word) or word.replace("-", "")) in (*_TRAIN, *_TEST, *_OTHER_PARTS)


def _doubt(top: ClassFolders) -> str:
    """Return why the subfolders of ``top`` may be parts, each with all classes in it; '' if not.

    Raises:
        DataError: the names of half of them or more say that they are.
    """
    held = {name: _subfolders(paths) for name, paths in top.folders.items()}
    count = Counter(inner for subfolders in held.values() for inner in subfolders)
    shared = sorted(inner for inner, times in count.items() if times > 1)
    alike = [name for name, inner in held.items() if len(set(inner) & set(shared)) > 1]
    if len(alike) < 2:  # classes are often divided, and 'images' alone is no class
        return ""
    told = f"{top.root}: {_listed(alike, ' and ')} hold the same subfolders, {_listed(shared)}"
    if 2 * sum(map(_is_part, alike)) >= len(alike):  # one among many is a class, as of vehicles
        raise DataError(
            f"{told}, and no pictures beside them, so that they look like parts of a set, not like "
            "classes (call them train/ and test/, and move others elsewhere; where they are "
            "classes, rename them)"
        )
    return (
        f"{told}: they are taken for classes. If the subfolders are, set data.path to one of "
        "these folders, or data.source=domains for all of them"
    )


def _around(classes: ClassFolders, top: ClassFolders) -> str:
    """Return what lies in the only folder of ``classes`` if it is no class; '' if it may be one.

    Raises:
        DataError: the parts of a set lie in it, and nothing has said yet what is trained on.
    """
    name = classes.names[0]
    path, inner = classes.root, classes.names
    for _ in range(_DEEPEST):
        if len(inner) != 1 or (path != classes.root and _is_part(inner[0])):
            break
        path, inner = path / inner[0], _subfolders([path / inner[0]])
    if not inner:
        return ""
    told = (
        f"{classes.root} holds one folder, {name}/, which would be the only class; the folders in "
        f"{path} are {_listed(inner)}"
    )
    parts = any(map(_is_part, inner))
    if classes is not top:  # parts in it are none to train on: it is such a part itself
        return told if parts else f"{told} (move these to {classes.root})"
    told = f"{told} (set data.path={str(path)!r})"
    if parts:
        raise DataError(told)
    return told


def _subfolders(folders: Sequence[Path]) -> tuple[str, ...]:
    """Return the names of subfolders, none where a picture lies beside them, or of what is shut."""
    found = set()
    for folder in folders:
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if is_leftover(entry.name):
                        continue
                    if entry.is_dir():
                        found.add(entry.name)
                    elif ending_of(entry.name) in endings():
                        return ()
        except OSError:
            return ()
    return tuple(sorted(found))


def _listed(names: Sequence[str], between: str = ", ") -> str:
    told = list(map(repr, names[:_TOLD])) + ["others"] * (len(names) > _TOLD)
    return between.join(told)


def _check_apart(root: Path, found: Found, tested: Found) -> None:
    """Tell of pictures that are trained on and tested on, refuse where all are."""
    both = same_files((path for path, _ in found.files), (path for path, _ in tested.files))
    if not both:
        return
    total = len(tested.files)
    number = f"all {total}" if len(both) == total else f"{len(both)} of {total}"
    told = (
        f"{number} pictures in {root} are pictures to train on as well, by links: "
        f"{both[0][1]} is {both[0][0]}"
    )
    if len(both) == total:
        raise DataError(
            f"{told} (put other pictures there, or remove it: then data.test-fraction is split off)"
        )
    logger.warning("%s; tests count what was learnt by heart", told)
