"""Pools: samples of every class from noise, to select from, to learn from and to keep a prior."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np

from regl_app.core.activity import Span
from regl_app.core.disk_cache import evict
from regl_app.core.files import exclusive
from regl_app.core.seeding import derive_seed
from regl_app.core.types import CacheKey, Counts
from regl_app.generator.pool import Pool, load_pool, sample_pool
from regl_app.supplement.client_generator import ClientGenerator
from regl_app.supplement.generated import GeneratedImages
from regl_app.supplement.run_generator import RunGenerator

_FROZEN = ClientGenerator.frozen("pool")


class Pools:
    """A folder of pools, each sampled once and then shared by all who ask.

    Args:
        generator: the run's.
        root: the folder.
        max_bytes: it takes at most; the least recently used pools go first.
    """

    def __init__(self, generator: RunGenerator, root: Path, max_bytes: int) -> None:
        self._generator = generator
        self._root = root
        self._max_bytes = max_bytes

    @property
    def digest(self) -> str:
        """Return what identifies the shared pool's content."""
        return self._path(self.key(_FROZEN)).stem

    def key(self, client_generator: ClientGenerator) -> CacheKey:
        """Return all that the content of ``pool(client_generator)`` depends on."""
        per_class = self._generator.config.pool.per_class
        return self._generator.keys.pool(client_generator.digest, self._stream, per_class)

    def pool(self, client_generator: ClientGenerator) -> Pool:
        """Return ``pool.per-class`` samples of every class; the frozen ones serve all clients."""
        per_class = self._generator.config.pool.per_class
        return self._load_or_sample(client_generator, self._stream, per_class)

    def frozen(self, stream: int, per_class: int) -> Pool:
        """Return ``per_class`` samples of every class by the frozen generator.

        Args:
            stream: seed of the samples.
            per_class: samples per class.
        """
        return self._load_or_sample(_FROZEN, stream, per_class)

    def candidates(self, wanted: Counts) -> GeneratedImages:
        """Return the shared pool's images of every class of which any is ``wanted``, ``(C,)``."""
        began = Span()
        cached = self._path(self.key(_FROZEN)).exists()
        images = self.pool(_FROZEN).images
        indices = np.flatnonzero((wanted > 0)[images.labels.numpy()])
        chosen = images.subset(indices)
        generated = 0 if cached else len(images)
        return GeneratedImages(
            chosen,
            generated,
            len(chosen) - min(generated, len(chosen)),
            began.seconds,
            indices,
        )

    @property
    def _stream(self) -> int:
        return derive_seed(self._generator.config.pool.seed, "pool")

    def _path(self, key: CacheKey) -> Path:
        name = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:40]
        return self._root / f"{name}.safetensors"

    def _load_or_sample(
        self, client_generator: ClientGenerator, stream: int, per_class: int
    ) -> Pool:
        generator = self._generator
        classes = len(generator.concepts)
        path = self._path(generator.keys.pool(client_generator.digest, stream, per_class))
        pool = load_pool(path, classes, per_class)
        if pool is not None:
            return pool
        with exclusive(path), generator.foundation.adapter(client_generator.path):
            pool = load_pool(path, classes, per_class)  # another worker may just have made it
            if pool is not None:
                return pool
            pool = sample_pool(
                generator.foundation,
                generator.config.generator,
                generator.shape,
                per_class=per_class,
                stream=stream,
                path=path,
                progress=generator.reporter("pool images"),
            )
        evict(self._root, "*.safetensors", self._max_bytes, keep=path)
        return pool
