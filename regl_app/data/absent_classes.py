"""Classes of a run that have no image, to train or to test on, in words."""

from __future__ import annotations

from collections.abc import Iterable

from regl_app.config.sections import DataConfig
from regl_app.data.source import Source

_TOLD = 10


def absent_classes(source: Source, config: DataConfig) -> list[str]:
    """Return what to say of classes without a training image, and of those without a test image.

    Sites' classes are not trained on where the source is; without any test image none is missed.

    Args:
        source: as a run loads it.
        config: the run's data keys.
    """
    told = []
    train, test = (part.counts(source.num_classes) for part in (source.train, source.test))
    names = source.class_names
    if not config.local and not train.all():
        cap = f"data.max-train={config.max_train} leaves room for no more: raise it, or "
        told.append(
            f"no training image of {_named(names, train)}: nobody learns them, and a generator "
            f"makes them up ({cap if 0 < config.max_train < len(names) else ''}add some)"
        )
    if test.any() and not test.all():
        cap = f"data.max-test={config.max_test} may have left them out: raise it, or "
        told.append(
            f"no test image of {_named(names, test)}: how well they are known is not measured "
            f"({cap if config.max_test else ''}add some)"
        )
    return told


def listed_classes(names: Iterable[str]) -> str:
    """Return classes' names for a message, the first ten of them."""
    shown = list(map(repr, names))
    more = f" and {len(shown) - _TOLD} more" if len(shown) > _TOLD else ""
    return ", ".join(shown[:_TOLD]) + more


def _named(names: Iterable[str], counts: Iterable[int]) -> str:
    return listed_classes(name for name, count in zip(names, counts, strict=True) if not count)
