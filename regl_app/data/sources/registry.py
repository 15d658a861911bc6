"""The sources by name; a new one is its file and one line here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from types import MappingProxyType

from regl_app.config.sections import DataConfig, PublicDataConfig
from regl_app.core.errors import DataError
from regl_app.data.source import Source


@lru_cache(maxsize=2)
def load_source(config: DataConfig) -> Source:
    """Return the source of ``config``, resized and capped (cached per process).

    Raises:
        DataError: files are absent or damaged; says what is expected where, and the remedy.
    """
    source = _loaders()[config.source](config)
    if source.num_classes < 2:
        raise DataError(f"data.source={config.source!r} has {source.num_classes} class, needs 2")
    if isinstance(config, PublicDataConfig) or config.source == "site":
        return source
    if len(source.train) == 0 or len(source.test) == 0:
        raise DataError(
            f"data.source={config.source!r} has {len(source.train)} training and "
            f"{len(source.test)} test images, needs at least one of each"
        )
    return source


def _loaders() -> Mapping[str, Callable[[DataConfig], Source]]:
    # The loaders build a Source, so they import this module: not the other way at import time.
    from regl_app.data.sources.digits import load_digits
    from regl_app.data.sources.folder import load_folder
    from regl_app.data.sources.hub import load_hub
    from regl_app.data.sources.site import load_server_part
    from regl_app.data.sources.torchvision import load_cifar, load_mnist_family

    return MappingProxyType(
        {
            "digits": load_digits,
            "mnist": load_mnist_family,
            "fashion-mnist": load_mnist_family,
            "emnist": load_mnist_family,
            "cifar10": load_cifar,
            "cifar100": load_cifar,
            "hub": load_hub,
            "folder": load_folder,
            "site": load_server_part,
        }
    )
