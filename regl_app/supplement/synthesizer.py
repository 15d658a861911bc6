"""The client's door to generation: adapt the generator, fill quotas, make the probe set.

Whatever was made before is reused: adapters and images are cached by content, and a foundation
is loaded only when something is missing.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from regl_app.config import RunConfig
from regl_app.config.paths import cache_dir
from regl_app.core.devices import resolve_device
from regl_app.core.disk_cache import GIGABYTE
from regl_app.core.torch_defaults import plain_torch
from regl_app.core.types import Counts, Progress
from regl_app.data.concepts import Concept
from regl_app.data.federation import Federation
from regl_app.data.images import ImageSet
from regl_app.data.picture_store import PictureStore
from regl_app.data.source import Source
from regl_app.generator.adaptation.cache import AdapterCache
from regl_app.generator.adaptation.shared import SharedAdapter
from regl_app.generator.compatibility import check_source
from regl_app.generator.pool import Pool
from regl_app.supplement.adapter_tuning import AdapterTuning
from regl_app.supplement.client_generator import ClientGenerator
from regl_app.supplement.generated import GeneratedImages
from regl_app.supplement.image_sequences import ImageSequences
from regl_app.supplement.image_store import SupplementStore
from regl_app.supplement.model_pair import ModelPair
from regl_app.supplement.own_pictures import OwnPictures
from regl_app.supplement.pools import Pools
from regl_app.supplement.run_generator import RunGenerator


class Synthesizer:
    """Generates what a client lacks; one object serves all virtual clients of a worker.

    A facade over ``AdapterTuning``, ``ImageSequences`` and ``Pools``, where each call is described.

    Built with ``cache_dir``, the root of the adapter cache, the image store, the pools and the
    decoded pictures; all else is as ``RunGenerator`` has it.
    """

    def __init__(
        self,
        config: RunConfig,
        concepts: tuple[Concept, ...],
        shape: tuple[int, int, int],
        *,
        seed: int,
        device: torch.device | str,
        cache_dir: Path,
        progress: Progress | None = None,
    ) -> None:
        max_bytes = int(config.cache_limit * GIGABYTE)
        generator = RunGenerator(
            config, tuple(concepts), shape, seed, torch.device(device), progress
        )
        self.config = generator.config
        self._pools = Pools(generator, cache_dir / "pools", max_bytes)
        adapters = AdapterCache(cache_dir / "adapters", max_bytes)
        own = OwnPictures(generator, PictureStore(cache_dir / "pictures", max_bytes))
        self._tuning = AdapterTuning(generator, adapters, self._pools, own)
        store = SupplementStore(cache_dir / "images", max_bytes)
        self._sequences = ImageSequences(generator, store, own)

    @classmethod
    def of(
        cls,
        config: RunConfig,
        source: Source,
        device: torch.device | str,
        cache_dir: Path,
        progress: Progress | None = None,
    ) -> Synthesizer:
        """Return the synthesizer of a run for the classes and the image shape of ``source``.

        No image of ``source`` is looked at: its sets may be empty.

        Raises:
            GeneratorError: its classes cannot be told to the generator.
        """
        check_source(config, source)
        return cls(
            config,
            source.concepts,
            source.train.shape,
            seed=config.seed,
            device=device,
            cache_dir=cache_dir,
            progress=progress,
        )

    @plain_torch()
    def adapt(self, client_name: str, real: ImageSet) -> ClientGenerator:
        """Return the client's generator, tuned on ``real`` if it is to be."""
        return self._tuning.adapt(client_name, real)

    @plain_torch()
    def tune_part(
        self, client_name: str, real: ImageSet, number: int, start: SharedAdapter
    ) -> ClientGenerator:
        """Return the client's part in round ``number`` of tuning one adapter for all."""
        return self._tuning.tune_part(client_name, real, number, start)

    def shared(self, client_name: str, adapter: SharedAdapter) -> ClientGenerator:
        """Return the generator with the adapter of all clients.

        Raises:
            ProtocolError: it came without B, and the cache has it no more.
        """
        return self._tuning.shared(client_name, adapter)

    @plain_torch()
    def prefer(self, start: ClientGenerator, pair: ModelPair) -> ClientGenerator:
        """Return ``start`` tuned towards images that the client lacks most."""
        return self._tuning.prefer(start, pair)

    def preferred(self, client_name: str, name: str) -> ClientGenerator | None:
        """Return the adapter that ``prefer`` left under ``name``, if it is still there."""
        return self._tuning.preferred(client_name, name)

    def received(self, client_name: str, digest: str, file: bytes) -> ClientGenerator | None:
        """Return the generator with an adapter from another machine, if ``file`` or cache has it.

        Raises:
            ProtocolError: ``file`` is not the adapter of that digest.
            GeneratorError: it is not an adapter of a denoiser.
        """
        return self._tuning.received(client_name, digest, file)

    @property
    def pool_digest(self) -> str:
        """Return what identifies the shared pool's content."""
        return self._pools.digest

    @plain_torch()
    def pool(self, client_generator: ClientGenerator) -> Pool:
        """Return ``pool.per-class`` samples of every class; the frozen ones serve all clients."""
        return self._pools.pool(client_generator)

    @plain_torch()
    def generate(
        self, quotas: Counts, client_generator: ClientGenerator, real: ImageSet
    ) -> GeneratedImages:
        """Return the first ``quotas[c]`` images of every class c of the client's sequence."""
        return self._sequences.generate(quotas, client_generator, real)

    @plain_torch()
    def candidates(
        self, wanted: Counts, client_generator: ClientGenerator, real: ImageSet
    ) -> GeneratedImages:
        """Return ``pool.per-class`` images of every class of which any is ``wanted``, ``(C,)``.

        The frozen generator's come from the shared pool, an adapted one's from the client's own
        sequences, as in ``generate``.
        """
        if client_generator.path is None and client_generator.models is None:
            return self._pools.candidates(wanted)
        quotas = np.where(wanted > 0, self.config.pool.per_class, 0)
        return self.generate(quotas, client_generator, real)

    @plain_torch()
    def probe(self) -> ImageSet:
        """Return the frozen generator's class-balanced probe set, identical for all parties."""
        return self._sequences.probe()


def make_synthesizer(
    config: RunConfig, federation: Federation, progress: Progress | None = None
) -> Synthesizer:
    """Return what adapts the generator to a client and generates what the client lacks."""
    device = resolve_device(config.device)
    return Synthesizer.of(config, federation.source, device, cache_dir(config), progress)
