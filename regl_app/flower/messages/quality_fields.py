"""How good synthetic images are, as fields of a reply."""

from __future__ import annotations

import numpy as np
from flwr.app import ConfigRecord

from regl_app.core.errors import ProtocolError
from regl_app.flower.messages.fields import get_counts, get_numbers, put_counts
from regl_app.supplement.image_quality import MEASURES, ImageQuality

_MOST = 1e6  # as many times as like, or as far apart, as real images
_NOT_MEASURED = -1.0  # lists of Flower's hold no NaN that our checks let through


def put_quality(record: ConfigRecord, quality: ImageQuality) -> None:
    """Write ``quality``."""
    put_counts(record, "quality-images", quality.images)
    for name in MEASURES:
        values = np.minimum(getattr(quality, name), _MOST)
        record[_key(name)] = np.nan_to_num(values, nan=_NOT_MEASURED).tolist()


def get_quality(record: ConfigRecord, num_classes: int) -> ImageQuality | None:
    """Return what was measured, None if nothing was or nothing is told.

    Raises:
        ProtocolError: a part of it is missing or malformed.
    """
    images = get_counts(record, "quality-images", num_classes)
    if images is None:
        return None
    found = {}
    for name in MEASURES:
        values = get_numbers(record, _key(name), num_classes, _MOST)
        if values is None:
            raise ProtocolError(f"{_key(name)} must be there, as quality-images is")
        found[name] = np.where(values < 0, np.nan, values)
    return ImageQuality(
        images, found["reading"], found["fidelity"], found["diversity"], found["near_copies"]
    )


def _key(name: str) -> str:
    return "quality-" + name.replace("_", "-")
