"""The sources by name; a new one is its file and one line of config/choices.py."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

from regl_app.config.choices import SOURCES
from regl_app.config.sections import DataConfig, PublicDataConfig
from regl_app.core.allowed_folders import AllowedFolders
from regl_app.core.dotted import resolve
from regl_app.core.errors import DataError
from regl_app.data.source import Source


@lru_cache(maxsize=2)
def load_source(config: DataConfig, roots: AllowedFolders | None = None) -> Source:
    """Return the source of ``config``, resized and capped (cached per process).

    Args:
        config: the run's data keys.
        roots: the folders that links below ``data.path`` may lead into; None: anywhere.

    Raises:
        DataError: files are absent or damaged; says what is expected where, and the remedy.
    """
    choice = SOURCES[config.source]
    load = resolve(choice.implementation)
    source: Source = load(config, roots) if choice.links else load(config)
    # A generator is tuned on what is trained on, nothing else has to be decoded for it.
    source = replace(source, train=source.train.alone(), test=replace(source.test, originals=None))
    if source.num_classes < 2:
        raise DataError(f"data.source={config.source!r} has {source.num_classes} class, needs 2")
    if isinstance(config, PublicDataConfig) or config.local:
        return source
    if len(source.train) == 0 or len(source.test) == 0:
        raise DataError(
            f"data.source={config.source!r} has {len(source.train)} training and "
            f"{len(source.test)} test images, needs at least one of each"
        )
    return source
