"""Image sequences: what a client's generator draws of each class, one image after the other.

Of a sequence only the beginning exists; it is stored, and extended when more is asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace

import numpy as np
import torch

from regl_app.core.activity import Span
from regl_app.core.files import exclusive
from regl_app.core.seeding import derive_seed
from regl_app.core.types import Counts
from regl_app.data.images import ImageSet
from regl_app.data.resize import fit
from regl_app.generator.discrepancy_guidance import DiscrepancyGuidance
from regl_app.generator.image_conditioning import encode_latents, start_position, takes_image
from regl_app.generator.sampling import sample
from regl_app.supplement.client_generator import ClientGenerator
from regl_app.supplement.generated import GeneratedImages
from regl_app.supplement.image_store import SupplementStore
from regl_app.supplement.model_pair import ModelPair
from regl_app.supplement.own_pictures import OwnPictures
from regl_app.supplement.own_prompts import OwnPrompts
from regl_app.supplement.run_generator import RunGenerator
from regl_app.supplement.sequence_part import SequencePart, portions

_STORED_BATCHES = 2


class ImageSequences:
    """The sequences of all clients of a run, and the probe set's.

    Args:
        generator: the run's.
        store: where their beginnings are kept.
        own: what gives a client's pictures at the generator's size.
    """

    def __init__(self, generator: RunGenerator, store: SupplementStore, own: OwnPictures) -> None:
        self._generator = generator
        self._store = store
        self._own = own

    def generate(
        self, quotas: Counts, client_generator: ClientGenerator, real: ImageSet
    ) -> GeneratedImages:
        """Return the first ``quotas[c]`` images of every class c of the client's sequence.

        Only what the store lacks is sampled. With an adapter, minority classes (those of which
        the client has some real images) are also image-conditioned, as configured. An IP-Adapter
        shows the generator the client's own pictures, with an adapter or without.

        Args:
            quotas: images per class, ``(C,)``.
            client_generator: the client's.
            real: the client's images, for image conditioning.
        """
        generator = self._generator
        conditioned = (
            client_generator.path is not None and generator.config.generator.image_conditioning
        )
        pictures = {
            label: real.subset(torch.nonzero(real.labels == label).flatten() if conditioned else [])
            for label in range(len(generator.concepts))
        }
        stream = derive_seed(generator.seed, "client", client_generator.client)
        shown = OwnPrompts.of(generator, self._own, real)
        result = self._beginnings(quotas, client_generator, pictures, stream, shown)
        steered = client_generator.models is not None or shown is not None
        own = steered or any(map(len, pictures.values()))
        return result if own else replace(result, sequence=quotas)

    def probe(self) -> ImageSet:
        """Return the frozen generator's class-balanced probe set, identical for all parties."""
        config, classes = self._generator.config.probe, len(self._generator.concepts)
        quotas = np.full(classes, config.per_class, dtype=np.int64)
        stream = derive_seed(config.seed, "probe")
        frozen = ClientGenerator.frozen("probe")
        none = dict.fromkeys(range(classes), ImageSet.empty(self._generator.shape))
        with exclusive(self._store.root / "probe"):  # all workers want it at the same moment
            return self._beginnings(quotas, frozen, none, stream).images

    def _beginnings(
        self,
        quotas: Counts,
        client_generator: ClientGenerator,
        pictures: Mapping[int, ImageSet],
        stream: int,
        shown: OwnPrompts | None = None,
    ) -> GeneratedImages:
        """Return the first ``quotas[c]`` images of class c, from the store or sampled now.

        Args:
            quotas: images per class, ``(C,)``.
            client_generator: what samples them.
            pictures: real images per class that sequences start from, may be none.
            stream: seed of the sequences.
            shown: real pictures that images are drawn after; None: none are.
        """
        began = Span()
        generator = self._generator
        models = client_generator.models.digest if client_generator.models else None
        digest = client_generator.digest
        keys = {
            label: generator.keys.images(
                label, digest, pictures[label], stream, models, shown.key if shown else ""
            )
            for label, quota in enumerate(quotas)
            if quota > 0
        }
        empty = torch.empty((0, *generator.shape), dtype=torch.uint8)
        images: dict[int, torch.Tensor] = {}
        for label, key in keys.items():
            stored = self._store.get(key, int(quotas[label]))
            images[label] = empty if stored is None else stored
        reused = sum(map(len, images.values()))
        missing = [
            SequencePart(label, len(stored), int(quotas[label]))
            for label, stored in images.items()
            if len(stored) < quotas[label]
        ]
        # What is stored as it comes is not lost with the process.
        done, total = 0, sum(map(len, missing))
        size = _STORED_BATCHES * generator.config.generator.batch_size
        with self._in_effect(client_generator, shown) if missing else nullcontext():
            for portion in portions(missing, size):
                sampled = self._sample(portion, client_generator, pictures, stream, (done, total))
                for label, more in sampled.items():
                    images[label] = torch.cat([images[label], more])
                    self._store.put(keys[label], images[label])
                    done += len(more)
        result = _image_set(images) if images else ImageSet.empty(generator.shape)
        return GeneratedImages(result, len(result) - reused, reused, began.seconds)

    @contextmanager
    def _in_effect(
        self, client_generator: ClientGenerator, shown: OwnPrompts | None
    ) -> Iterator[None]:
        """Have the client's generator draw for a while: merged once for all that is missing."""
        with (
            shown.in_effect() if shown else nullcontext(),
            self._generator.foundation.adapter(client_generator.path),
        ):
            yield

    def _sample(
        self,
        parts: Sequence[SequencePart],
        client_generator: ClientGenerator,
        pictures: Mapping[int, ImageSet],
        stream: int,
        progress: tuple[int, int],
    ) -> dict[int, torch.Tensor]:
        """Sample ``parts``: first what starts from noise, then what starts from pictures.

        ``progress`` is how many images were made before, and how many there will be.
        """
        generator, config = self._generator, self._generator.config.generator
        foundation = generator.foundation
        positions = [position for part in parts for position in part.positions]
        from_pictures = [
            (label, index)
            for label, index in positions
            if len(pictures[label]) and takes_image(index, config.image_share)
        ]
        others = set(positions).difference(from_pictures)
        from_noise = [position for position in positions if position in others]
        images: dict[tuple[int, int], torch.Tensor] = {}
        before, total = progress
        guidance = self._guidance(client_generator.models)
        for group in (from_noise, from_pictures):
            if not group:
                continue
            starts = self._starts(group, pictures) if group is from_pictures else None
            sampled = sample(
                foundation,
                [label for label, _ in group],
                [index for _, index in group],
                config,
                stream=stream,
                starts=starts,
                discrepancy_guidance=guidance,
                progress=generator.reporter("images", before + len(images), total),
            )
            images |= dict(zip(group, fit(sampled, generator.shape), strict=True))
        return {
            part.label: torch.stack([images[position] for position in part.positions])
            for part in parts
        }

    def _starts(
        self, positions: Sequence[tuple[int, int]], pictures: Mapping[int, ImageSet]
    ) -> torch.Tensor:
        """Return the latents ``(N, c, h, w)`` of the pictures that ``positions`` start from."""
        config = self._generator.config.generator
        share = config.image_share
        own = {label: self._own.of(pictures[label]) for label in {label for label, _ in positions}}
        places = [start_position(index, share, len(own[label])) for label, index in positions]
        chosen = [
            own[label][place : place + 1]
            for (label, _), place in zip(positions, places, strict=True)
        ]
        starts = torch.cat(chosen)
        return encode_latents(self._generator.foundation, starts, config.batch_size)

    def _guidance(self, pair: ModelPair | None) -> DiscrepancyGuidance | None:
        if pair is None:
            return None
        generator, config = self._generator, self._generator.config.steering
        noise_process = generator.foundation.noise_process()
        return DiscrepancyGuidance(
            noise_process, pair.gap(), generator.shape, config.strength, config.limit
        )


def _image_set(images: Mapping[int, torch.Tensor]) -> ImageSet:
    """Return the images of each class, at least one, as one set."""
    labels = [torch.full((len(each),), label) for label, each in images.items()]
    return ImageSet(torch.cat(list(images.values())), torch.cat(labels).long())
