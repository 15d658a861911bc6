"""Where a data set known by name lies, and what to say where it does not."""

from __future__ import annotations

from pathlib import Path

from regl_app.config.sections import DataConfig
from regl_app.core.errors import DataError


def data_root(config: DataConfig) -> Path:
    """Return ``data.path``.

    Raises:
        DataError: it is not set.
    """
    if not config.path:
        raise DataError(
            f"data.source={config.source!r} needs data.path, the folder that holds or receives "
            "the data set, got ''"
        )
    return Path(config.path).expanduser()


def own_folder(config: DataConfig, *names: str) -> Path:
    """Return the first of the folders ``names`` in ``data.path``, or ``data.path`` itself."""
    root = data_root(config)
    return next((root / name for name in names if (root / name).is_dir()), root)


def absent(config: DataConfig, folder: Path, expected: str) -> DataError:
    """Return the error of a data set that could be fetched."""
    return DataError(
        f"data.source={config.source!r}: {folder} lacks {expected} (data.path={config.path!r}); "
        "set data.download=true to fetch it, or point data.path to the folder above it"
    )


def not_laid_out(config: DataConfig, folder: Path, expected: str) -> DataError:
    """Return the error of a data set that a person has to fetch."""
    return DataError(
        f"data.source={config.source!r}: {folder} lacks {expected}; unpack the data set there as "
        f"it is published, or point data.path to what holds it (data.path={config.path!r})"
    )


def cannot_be_fetched(config: DataConfig, error: Exception) -> DataError:
    """Return the error of a failed download."""
    return DataError(
        f"data.source={config.source!r} cannot be fetched into data.path={config.path!r}: "
        f"{error}; check the network and that the folder is writable"
    )
