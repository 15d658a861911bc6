"""The run's generator, the same for all of its clients, loaded only where something is missing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch

from regl_app.config import RunConfig
from regl_app.config.supplement_sections import GeneratorConfig
from regl_app.core.log import logger
from regl_app.core.types import Progress
from regl_app.data.concepts import Concept
from regl_app.generator.checkpoint import resolve_generator
from regl_app.generator.encoder_files import resolve_image_encoder
from regl_app.generator.fitting import fitted_if_here
from regl_app.generator.foundation import Foundation, shared_foundation
from regl_app.generator.ip_adapter import IpAdapter, check_ip_adapter
from regl_app.generator.limits import blind_start_of
from regl_app.generator.named_encoder import NamedEncoder
from regl_app.supplement.cache_keys import CacheKeys


@dataclass(frozen=True)
class RunGenerator:
    """What adapters, image sequences and pools are made with, for one classifier.

    Args:
        config: the run; its generator, lora, dpo, pool, probe and threads keys matter here. What
            of them says 'auto' fits the checkpoint from here on.
        concepts: what each class shows ('the digit three'), ``(C,)``.
        shape: ``(C, H, W)`` of the classifier's images.
        seed: the run's seed; every client draws from its own stream under it.
        device: where the generator runs.
        progress: called with (what, done, of).
    """

    config: RunConfig
    concepts: tuple[Concept, ...]
    shape: tuple[int, int, int]
    seed: int
    device: torch.device
    progress: Progress | None = None

    def __post_init__(self) -> None:
        """Fit the configuration to the checkpoint.

        Where that is not here, the loading says so, if it comes to it.
        """
        object.__setattr__(self, "config", fitted_if_here(self.config))

    @property
    def foundation(self) -> Foundation:
        """Return this worker's foundation, loading it when first needed.

        Raises:
            GeneratorError: the checkpoint cannot be used.
        """
        generator = self._told
        return shared_foundation(generator, self.concepts, self.device, self.keys.generator)

    @cached_property
    def _told(self) -> GeneratorConfig:
        generator = self.config.generator
        if self.config.starts_from_pictures:
            words = blind_start_of(resolve_generator(generator.path), generator)
            if words:
                logger.warning("%s", words)
        return generator

    @property
    def image_encoder(self) -> NamedEncoder | None:
        """Return the image encoder that the run names, if anything of it is read by one."""
        path = self.config.image_encoder
        return NamedEncoder(path, self.keys.image_encoder) if path else None

    @cached_property
    def ip_adapter(self) -> IpAdapter | None:
        """Return the IP-Adapter that the run names, if its clients' pictures are shown by one.

        Raises:
            GeneratorError: there is none, or it was made for something else.
        """
        path = self.config.ip_adapter
        if not path:
            return None
        checkpoint = resolve_generator(self.config.generator.path)
        check_ip_adapter(path, checkpoint, resolve_image_encoder(self.config.image_encoder))
        return IpAdapter.of(path)

    @cached_property
    def keys(self) -> CacheKeys:
        """Return the cache keys of what this generator makes."""
        return CacheKeys(self.config, self.concepts, self.shape, self.device)

    def reporter(
        self, what: str, before: int = 0, total: int | None = None
    ) -> Callable[[int, int], None] | None:
        """Return what is called with (done, of) while ``what`` is made; None if nobody listens.

        Args:
            what: is made, e.g. 'images'.
            before: how many were done before this part of the work.
            total: how many the whole work has; None: as many as the part says.
        """
        progress = self.progress
        if progress is None:
            return None
        return lambda done, part: progress(what, before + done, part if total is None else total)
