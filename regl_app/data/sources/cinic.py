"""CINIC-10 as it is published: ``train/``, ``valid/`` and ``test/`` of ten class folders."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from regl_app.config.sections import DataConfig
from regl_app.core.allowed_folders import AllowedFolders
from regl_app.data.concepts import concepts_of
from regl_app.data.picture_store import PictureStore
from regl_app.data.source import Source
from regl_app.data.sources.data_root import not_laid_out, own_folder
from regl_app.data.sources.folder import folder_files, load_folder

CLASSES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)


def load_cinic(
    config: DataConfig,
    roots: AllowedFolders | None = None,
    store: PictureStore | None = None,
) -> Source:
    """Return CINIC-10, ``(N, 3, size, size)``, from ``data.path`` or ``CINIC-10/`` in it.

    Trained on ``train/``, tested on ``test/``; ``valid/`` is not used.

    Raises:
        DataError: it is not laid out like that, or a file is unreadable.
    """
    inner = _inner(config)
    found = load_folder(inner, roots, store)
    if found.class_names != CLASSES:
        others = sorted(set(found.class_names) - set(CLASSES))
        what = f"the ten classes alone (it has {', '.join(others)} too)"
        raise not_laid_out(config, Path(inner.path), what)
    return replace(found, name="cinic10", concepts=concepts_of(CLASSES, article=True))


def cinic_files(config: DataConfig, roots: AllowedFolders | None = None) -> tuple[Path, ...]:
    """Return the files that ``load_cinic`` reads.

    Raises:
        DataError: it is not laid out like that.
    """
    return folder_files(_inner(config), roots)


def _inner(config: DataConfig) -> DataConfig:
    """Return ``config`` with the data set's own folder as its path."""
    root = own_folder(config, "CINIC-10", "CINIC10", "cinic-10", "cinic10")
    parts = ("train", "test")
    missing = [
        f"{part}/{name}" for part in parts for name in CLASSES if not (root / part / name).is_dir()
    ]
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise not_laid_out(config, root, ", ".join(missing[:3]) + more)
    return config.model_copy(update={"path": str(root)})
