"""A client's pictures at the size of the generator, for tuning and for image conditioning."""

from __future__ import annotations

from functools import lru_cache

from regl_app.config.run_config import BUNDLED
from regl_app.core.log import logger
from regl_app.data.images import ImageSet
from regl_app.data.picture_store import PictureStore
from regl_app.data.pictures import Pictures
from regl_app.supplement.run_generator import RunGenerator


class OwnPictures:
    """Gives a run's generator what it learns from, not enlarged copies of what classifiers see.

    Args:
        generator: the run's.
        store: where pictures of the generator's size are kept.
    """

    def __init__(self, generator: RunGenerator, store: PictureStore) -> None:
        self._generator = generator
        self._store = store

    def of(self, real: ImageSet) -> Pictures:
        """Return the pictures of ``real``, ``(N, C, H, W)`` of any side; loads the generator.

        Of its own side where ``real`` has originals and a smaller one. A process says once if they
        are enlarged.

        Raises:
            DataError: an original cannot be read, or is no longer what it was.
        """
        size, seen = self._generator.foundation.image_size, real.shape[1]
        if len(real) and self._generator.config.generator.path != BUNDLED:
            _warn_of_enlarging(real, size)
        if real.originals is None or size <= seen:
            return real.pixels
        return self._store.pictures(real.originals, size)


def _warn_of_enlarging(real: ImageSet, size: int) -> None:
    if real.originals is None:
        if real.shape[1] < size:
            _warn_once(
                f"pictures of at most {real.shape[1]} pixels are enlarged to {size} for tuning: "
                "what the generator draws will be as coarse (give larger pictures, raise "
                "data.image-size if it made them small, or lower generator.image-size)"
            )
        return
    sides = real.originals.sides  # of all clients here, so that it is said once
    small = int((sides < size).sum())
    if small:
        _warn_once(
            f"{small} of {len(sides)} pictures, of {sides.min()} pixels and more, are enlarged to "
            f"{size} for tuning: what the generator draws of them will be as coarse (give larger "
            "pictures, leave small ones out, or lower generator.image-size)"
        )


@lru_cache(maxsize=64)
def _warn_once(text: str) -> None:
    logger.warning("%s", text)
