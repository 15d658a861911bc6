"""How images reach a client: as pixels, or as places in a pool that it can make itself."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
import torch

from regl_app.data.images import ImageSet
from regl_app.errors import ProtocolError
from regl_app.supplement.selection import Labels


@dataclass(frozen=True)
class Parcel:
    """Synthetic images on their way: by reference if ``pool`` is set, else by ``pixels``.

    ``labels`` (M,); ``places`` (M,) in the pool of that digest; ``pixels`` uint8 (M, C, H, W),
    compressed without loss.
    """

    labels: Labels
    pool: str = ""
    places: Labels | None = None
    pixels: bytes = b""

    @classmethod
    def of_images(cls, images: ImageSet) -> Parcel:
        """Return ``images`` as pixels."""
        content = images.images.contiguous().numpy().tobytes()
        return cls(images.labels.numpy(), pixels=zlib.compress(content, 9))

    @classmethod
    def by_reference(cls, labels: Labels, pool: str, places: Labels) -> Parcel:
        """Return images as ``places`` in the pool of digest ``pool``."""
        return cls(labels, pool, places)


def unpack(parcel: Parcel, shape: tuple[int, int, int], pool: ImageSet | None) -> ImageSet:
    """Return the images of a parcel.

    Args:
        parcel: from another machine.
        shape: ``(C, H, W)`` of the images.
        pool: this client's own pool of the parcel's digest; only read for references.

    Raises:
        ProtocolError: it is damaged, or does not fit ``shape`` or the pool.
    """
    labels = torch.from_numpy(parcel.labels)
    if parcel.places is not None:
        if pool is None or len(parcel.places) != len(labels):
            raise ProtocolError(
                f"{len(labels)} images came as {len(parcel.places)} places in a pool that this "
                "client does not have (set supplement.transport='images')"
            )
        if len(labels) and not 0 <= parcel.places.min() <= parcel.places.max() < len(pool):
            raise ProtocolError(f"pool-places must be < {len(pool)}, got {parcel.places.max()}")
        chosen = pool.subset(parcel.places)
        if not torch.equal(chosen.labels, labels):
            raise ProtocolError("pool-places lead to images of other classes than sent")
        return chosen
    wanted = len(labels) * int(np.prod(shape))
    try:
        reader = zlib.decompressobj()
        content = reader.decompress(parcel.pixels, wanted + 1)  # no more than expected is unpacked
    except zlib.error as error:
        raise ProtocolError(f"pixels cannot be decompressed: {error}") from error
    if len(content) != wanted:
        raise ProtocolError(
            f"pixels must be {wanted} bytes for {len(labels)} images of {shape}, got "
            f"{'more' if len(content) > wanted else len(content)}"
        )
    pixels = torch.frombuffer(bytearray(content), dtype=torch.uint8) if content else torch.empty(0)
    return ImageSet(pixels.to(torch.uint8).reshape(len(labels), *shape), labels)
