"""How images reach a client: as pixels, or as places in what its own generator makes again."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch

from regl_app.core.errors import ProtocolError
from regl_app.core.types import Counts
from regl_app.data.images import ImageSet
from regl_app.generator.adapters import WEIGHTS
from regl_app.supplement.make_supplement import Supply
from regl_app.supplement.selection import Labels


@dataclass(frozen=True)
class Reference:
    """Where images are among those that the same generator makes from the same seeds.

    ``pool`` is the shared pool's digest: it stands for generator, sampler and seeds. ``places``
    (M,) count in that pool or, if ``sequence`` (C,) is set, among so many images per class of the
    client's own sequences; these are made with the adapter of digest ``adapter``, '' for none.
    """

    pool: str
    places: Labels
    adapter: str = ""
    sequence: Counts | None = None


@dataclass(frozen=True)
class Parcel:
    """Synthetic images on their way: by ``reference`` if there is one, else by ``pixels``.

    ``labels`` (M,); ``pixels`` uint8 (M, C, H, W), compressed without loss; ``adapter_file`` is the
    adapter of the reference, for a client that does not have it yet.
    """

    labels: Labels
    reference: Reference | None = None
    pixels: bytes = b""
    adapter_file: bytes = b""

    @classmethod
    def of_images(cls, images: ImageSet) -> Parcel:
        """Return ``images`` as pixels."""
        content = images.images.contiguous().numpy().tobytes()
        return cls(images.labels.numpy(), pixels=zlib.compress(content, 9))

    def for_holder(self, adapter: str) -> Parcel:
        """Return the parcel for a client that keeps ``adapter``: its file need not travel."""
        known = self.reference is not None and self.reference.adapter == adapter
        return replace(self, adapter_file=b"") if known else self


@dataclass(frozen=True)
class ParcelLimits:
    """What a parcel may hold at most, given the run's configuration.

    ``images`` in all, of ``image_bytes`` each; ``adapter`` returns the bytes of an adapter's file,
    for which the generator has to be looked at.
    """

    images: int
    image_bytes: int
    adapter: Callable[[], int]

    def pixels(self, count: int) -> int:
        """Return the most bytes of ``count`` compressed images: zlib adds little to noise."""
        size = count * self.image_bytes
        return size + size // 1000 + 1024


def unpack(parcel: Parcel, shape: tuple[int, int, int], made: ImageSet | None) -> ImageSet:
    """Return the images of a parcel.

    Args:
        parcel: from another machine.
        shape: ``(C, H, W)`` of the images.
        made: what this client's generator made of the reference, if there is one.

    Raises:
        ProtocolError: it is damaged, or does not fit ``shape`` or what was made.
    """
    labels = torch.from_numpy(parcel.labels)
    if parcel.reference is not None:
        places = parcel.reference.places
        if made is None or len(places) != len(labels):
            raise ProtocolError(
                f"{len(labels)} images came as {len(places)} places in a pool that this "
                "client does not have (set supplement.transport='images')"
            )
        if len(labels) and not 0 <= places.min() <= places.max() < len(made):
            raise ProtocolError(f"parcel-places must be < {len(made)}, got {places.max()}")
        chosen = made.subset(places)
        if not torch.equal(chosen.labels, labels):
            raise ProtocolError("parcel-places lead to images of other classes than sent")
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


def pack(supplied: Supply, pool: str, held: str) -> Parcel:
    """Return a supply as it travels to its client: by reference if that can be and is shorter.

    Args:
        supplied: with at least one image.
        pool: digest of the pool that client and server would both make; '' if they would not.
        held: digest of the adapter that the client keeps, '' if none.
    """
    labels, adaptation = supplied.images.labels.numpy(), supplied.adaptation
    if not pool or supplied.places is None:
        return Parcel.of_images(supplied.images)
    if adaptation.path is None:
        return Parcel(labels, Reference(pool, supplied.places, "", supplied.made.sequence))
    # The file goes along even for one who has it, in case it is lost by then: see for_holder.
    file = (adaptation.path / WEIGHTS).read_bytes()
    if adaptation.digest != held:
        pixels = Parcel.of_images(supplied.images)
        if len(file) > len(pixels.pixels):
            return pixels
    reference = Reference(pool, supplied.places, adaptation.digest, supplied.made.sequence)
    return Parcel(labels, reference, adapter_file=file)
