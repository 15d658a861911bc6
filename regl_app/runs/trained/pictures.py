"""Pictures that a user names, files and folders, in the form that a run's model takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from regl_app.config.sections import DepthRule, UnreadableRule
from regl_app.core.allowed_folders import AllowedFolders
from regl_app.core.errors import DataError
from regl_app.data.class_folders import ClassFolders
from regl_app.data.images import ImageSet
from regl_app.data.originals import PictureFiles
from regl_app.data.picture_formats import endings
from regl_app.data.read_pictures import read_pictures
from regl_app.runs.trained.deep_pictures import as_in_run, warn_of_differing
from regl_app.runs.trained.model import TrainedModel


@dataclass(frozen=True)
class NamedPictures:
    """Images and the N files that they were read from; those that could not be are left out."""

    files: tuple[Path, ...]
    images: ImageSet


def find_pictures(named: Sequence[Path]) -> tuple[Path, ...]:
    """Return the picture files among ``named`` and anywhere below the folders among them.

    A file that is named is taken whatever its ending; in folders hidden files and systems'
    leftovers are none, and what else is not read is logged. Each file comes once.

    Raises:
        DataError: a name leads nowhere, or there is no picture at all.
    """
    found: list[Path] = []
    for path in named:
        if path.is_dir():
            whole = ClassFolders(path, str(path), AllowedFolders(), {path.name: (path,)})
            below = whole.pictures((path.name,))
            below.left_out.tell(str(path))
            found += [file for file, _ in below.files]
        elif path.is_file():
            found.append(path)
        else:
            raise DataError(f"{path}: there is no such file or folder")
    if not found:
        raise DataError(
            f"no picture in {', '.join(map(str, named))}; known endings: "
            f"{', '.join(sorted(endings()))}"
        )
    return tuple(dict.fromkeys(found))


def named_pictures(
    files: Sequence[Path],
    trained: TrainedModel,
    *,
    depth: DepthRule | None = None,
    unreadable: UnreadableRule | None = None,
) -> NamedPictures:
    """Return ``files`` as images of the model's size and channels, read as in the run.

    Args:
        files: pictures of any size and format.
        trained: whose ``data.fit`` and ``data.unreadable`` count, and the scales by which its run
            read deep greyscale.
        depth: a rule for deep greyscale in their place.
        unreadable: whether a file that cannot be read is refused or left out.

    Raises:
        DataError: names the files that cannot be decoded.
    """
    own = trained.config.data
    data = own.model_copy(
        update={
            "depth": depth or own.depth,
            "unreadable": unreadable or own.unreadable,
            "image_size": trained.size,
        }
    )
    pictures = PictureFiles.of_paths(tuple(files))
    labels = np.zeros(len(files), dtype=np.int64)
    read = read_pictures(
        pictures, labels, data if depth else as_in_run(trained, data), trained.channels
    )
    if not depth:
        warn_of_differing(trained, read.depth, "name a rule by --depth, or a site by --client")
    return NamedPictures(tuple(files[place] for place in read.kept.tolist()), read.images)
