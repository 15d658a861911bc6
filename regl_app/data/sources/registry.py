"""The sources by name; a new one is its file and one line of config/choices.py."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from regl_app.config.choices import SOURCES
from regl_app.config.sections import DataConfig, PublicDataConfig
from regl_app.core.allowed_folders import AllowedFolders
from regl_app.core.dotted import resolve
from regl_app.core.errors import DataError
from regl_app.core.file_states import files_state
from regl_app.core.readable import readable
from regl_app.data.picture_store import PictureStore
from regl_app.data.source import Source


def source_files(config: DataConfig, roots: AllowedFolders | None = None) -> tuple[Path, ...]:
    """Return the files that the source of ``config`` is read from, none if it has none.

    Args:
        config: the run's data keys.
        roots: the folders that links below ``data.path`` may lead into; None: anywhere.

    Raises:
        DataError: which files it is cannot be told, as the folder is not what it must be.
    """
    choice = SOURCES[config.source]
    if not choice.files:
        return ()
    files = resolve(choice.files)
    with readable(f"data.path={config.path!r}", DataError):
        return tuple(files(config, roots) if choice.links else files(config))


def source_state(config: DataConfig, roots: AllowedFolders | None = None) -> str:
    """Return what changes when a file does that the source of ``config`` is read from.

    Also when one is added, moved or removed. It is known by names, sizes and times of modification
    (``files_state``), '' where there are no files.

    Args:
        config: the run's data keys.
        roots: the folders that links below ``data.path`` may lead into; None: anywhere.

    Raises:
        DataError: which files it is cannot be told, as the folder is not what it must be.
    """
    if not SOURCES[config.source].files:
        return ""
    with readable(f"data.path={config.path!r}", DataError):
        return files_state(source_files(config, roots))


def refuse_absent(config: DataConfig) -> None:
    """Raise if nothing that the source of ``config`` is read from is there, nor will be fetched.

    What else may be wrong with it shows when it is read, which takes longer.

    Raises:
        DataError: says what is expected where, and the remedy.
    """
    choice = SOURCES[config.source]
    if not choice.files or choice.remote or config.download:
        return
    source_state(config)
    if not any(path.exists() for path in source_files(config)):
        load_source(config)


def load_source(
    config: DataConfig,
    roots: AllowedFolders | None = None,
    store: PictureStore | None = None,
    state: str | None = None,
    *,
    whole: bool = False,
) -> Source:
    """Return the source of ``config``, resized and capped.

    Cached per process, until one of its files changes.

    Args:
        config: the run's data keys.
        roots: the folders that links below ``data.path`` may lead into; None: anywhere.
        store: where what any process of this machine has decoded is found; None: nowhere.
        state: that of the files, if it is to be taken as known (``source_state``): what was loaded
            in this state is returned, whatever they are now.
        whole: nothing is trained on it, so that one class, or one image, will do.

    Raises:
        DataError: files are absent or damaged; says what is expected where, and the remedy.
    """
    state = source_state(config, roots) if state is None else state
    return _load(config, roots, store, state, whole)


@lru_cache(maxsize=2)
def _load(
    config: DataConfig,
    roots: AllowedFolders | None,
    store: PictureStore | None,
    _state: str,
    whole: bool,
) -> Source:
    choice = SOURCES[config.source]
    load = resolve(choice.implementation)
    more = ({"roots": roots} if choice.links else {}) | ({"store": store} if choice.stores else {})
    with readable(f"data.path={config.path!r}", DataError):
        source: Source = load(config, **more)
    # A generator is tuned on what is trained on, nothing else has to be decoded for it.
    source = replace(source, train=source.train.alone(), test=replace(source.test, originals=None))
    if whole:
        return source
    folders = choice.links  # which only those have whose classes are folders
    if source.num_classes < 2:
        remedy = (
            " (one subfolder of pictures for each; labels that are in a table: docs/data.md)"
            if folders
            else ""
        )
        raise DataError(
            f"{_called(config)} has {source.num_classes} class, {', '.join(source.class_names)}, "
            f"needs at least 2{remedy}"
        )
    if isinstance(config, PublicDataConfig) or config.local:
        return source
    if len(source.train) == 0 or len(source.test) == 0:
        or_folders = ", or a folder train/ and a folder test/ with the classes in both"
        raise DataError(
            f"{_called(config)} has {len(source.train)} training and {len(source.test)} test "
            "images, needs at least one of each (more pictures, another data.test-fraction"
            f"{or_folders if folders else ''})"
        )
    return source


def _called(config: DataConfig) -> str:
    path = f" data.path={config.path!r}" if config.path else ""
    return f"data.source={config.source!r}{path}"
