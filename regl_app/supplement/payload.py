"""How images reach a client: as pixels, or as indices into what its own generator makes again."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch

from regl_app.core.errors import ProtocolError
from regl_app.core.types import Counts, Indices, Labels
from regl_app.data.images import ImageSet
from regl_app.generator.adapters import WEIGHTS
from regl_app.supplement.make_supplement import Supplement
from regl_app.supplement.policy import allocate
from regl_app.supplement.selection import first


@dataclass(frozen=True)
class PoolReference:
    """Where images are among those that the same generator makes from the same seeds.

    ``pool`` is the shared pool's digest: it stands for generator, sampler and seeds. ``indices``
    (M,) count in that pool or, if ``sequence`` (C,) is set, among so many images per class of the
    client's own sequences; these are made with the adapter of digest ``adapter``, '' for none.
    """

    pool: str
    indices: Indices
    adapter: str = ""
    sequence: Counts | None = None


@dataclass(frozen=True)
class Payload:
    """Synthetic images on their way: by ``reference`` if there is one, else by ``pixels``.

    ``labels`` (M,); ``pixels`` uint8 (M, C, H, W), compressed without loss; ``adapter_file`` is the
    adapter of the reference, for a client that does not have it yet. ``opinion`` is what the class
    experts take the images for, a byte per image and class; empty where labels are hard.
    """

    labels: Labels
    reference: PoolReference | None = None
    pixels: bytes = b""
    adapter_file: bytes = b""
    opinion: bytes = b""

    @classmethod
    def of_images(cls, images: ImageSet) -> Payload:
        """Return ``images`` as pixels."""
        content = images.images.contiguous().numpy().tobytes()
        return cls(images.labels.numpy(), pixels=zlib.compress(content, 9))

    def for_holder(self, adapter: str) -> Payload:
        """Return the payload for a client that keeps ``adapter``: its file need not travel."""
        known = self.reference is not None and self.reference.adapter == adapter
        return replace(self, adapter_file=b"") if known else self

    def cut(self, most: int, ties: Counts | None = None) -> Payload:
        """Return the payload with at most ``most`` images: the first of every class, in its mix.

        ``ties`` as for ``allocate``, of all classes.
        """
        if len(self.labels) <= most:
            return self
        counts = np.bincount(self.labels)
        order = None if ties is None else ties[: len(counts)]
        places = first(self.labels, allocate(counts, most, counts, order))

        def rows(content: bytes) -> bytes:
            return np.frombuffer(content, np.uint8).reshape(len(self.labels), -1)[places].tobytes()

        reference = self.reference
        return replace(
            self,
            labels=self.labels[places],
            reference=reference and replace(reference, indices=reference.indices[places]),
            pixels=self.pixels and zlib.compress(rows(zlib.decompress(self.pixels)), 9),
            opinion=rows(self.opinion),
        )

    def with_opinion(self, probabilities: torch.Tensor | None) -> Payload:
        """Return the payload with ``probabilities`` ``(M, C)``, each row in 255ths of its largest.

        Within 0.4 % of it, whatever C is.
        """
        if probabilities is None:
            return self
        scaled = probabilities / probabilities.amax(dim=1, keepdim=True)
        content = scaled.mul(255).round().to(torch.uint8).contiguous().numpy().tobytes()
        return replace(self, opinion=content)

    def probabilities(self, num_classes: int) -> torch.Tensor | None:
        """Return the experts' opinion ``(M, C)``, rows adding up to 1; None if there is none.

        Raises:
            ProtocolError: it is not of this payload's images and classes, or says nothing of one.
        """
        if not self.opinion:
            return None
        wanted = len(self.labels) * num_classes
        if len(self.opinion) != wanted:
            raise ProtocolError(
                f"payload-opinion must have {wanted} bytes for {len(self.labels)} images of "
                f"{num_classes} classes, got {len(self.opinion)}"
            )
        raw = torch.frombuffer(bytearray(self.opinion), dtype=torch.uint8)
        spoken = raw.reshape(-1, num_classes).float()
        total = spoken.sum(dim=1, keepdim=True)
        if not bool((total > 0).all()):
            raise ProtocolError("payload-opinion says nothing of an image")
        return spoken / total


@dataclass(frozen=True)
class PayloadLimits:
    """What a payload may hold at most, given the run's configuration.

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


def unpack(payload: Payload, shape: tuple[int, int, int], candidates: ImageSet | None) -> ImageSet:
    """Return the images of a payload.

    Args:
        payload: from another machine.
        shape: ``(C, H, W)`` of the images.
        candidates: what this client's generator makes of the reference, if there is one.

    Raises:
        ProtocolError: it is damaged, or does not fit ``shape`` or ``candidates``.
    """
    labels = torch.from_numpy(payload.labels)
    if payload.reference is not None:
        indices = payload.reference.indices
        if candidates is None or len(indices) != len(labels):
            raise ProtocolError(
                f"{len(labels)} images came as {len(indices)} places in a pool that this "
                "client does not have (set supplement.transport='images')"
            )
        if len(labels) and not 0 <= indices.min() <= indices.max() < len(candidates):
            raise ProtocolError(f"payload-places must be < {len(candidates)}, got {indices.max()}")
        chosen = candidates.subset(indices)
        if not torch.equal(chosen.labels, labels):
            raise ProtocolError("payload-places lead to images of other classes than sent")
        return chosen
    wanted = len(labels) * int(np.prod(shape))
    try:
        reader = zlib.decompressobj()
        content = reader.decompress(payload.pixels, wanted + 1)  # no more than expected is unpacked
    except zlib.error as error:
        raise ProtocolError(f"pixels cannot be decompressed: {error}") from error
    if len(content) != wanted:
        raise ProtocolError(
            f"pixels must be {wanted} bytes for {len(labels)} images of {shape}, got "
            f"{'more' if len(content) > wanted else len(content)}"
        )
    pixels = torch.frombuffer(bytearray(content), dtype=torch.uint8) if content else torch.empty(0)
    return ImageSet(pixels.to(torch.uint8).reshape(len(labels), *shape), labels)


def pack(supplement: Supplement, pool: str, adapter: str) -> Payload:
    """Return a supplement as it travels to its client: by reference if that can be and is shorter.

    Args:
        supplement: with at least one image.
        pool: digest of the pool that client and server would both make; '' if they would not.
        adapter: digest of the one that the client keeps, '' if none.
    """
    client_generator, indices = supplement.client_generator, supplement.indices
    if not pool or indices is None:
        return Payload.of_images(supplement.images)
    labels, sequence = supplement.images.labels.numpy(), supplement.candidates.sequence
    if client_generator.path is None:
        return Payload(labels, PoolReference(pool, indices, "", sequence))
    # The file goes along even for one who has it, in case it is lost by then: see for_holder.
    file = (client_generator.path / WEIGHTS).read_bytes()
    if client_generator.digest != adapter:
        pixels = Payload.of_images(supplement.images)
        if len(file) > len(pixels.pixels):
            return pixels
    reference = PoolReference(pool, indices, client_generator.digest, sequence)
    return Payload(labels, reference, adapter_file=file)
