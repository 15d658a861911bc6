"""A client's own pictures as image prompts of what is drawn for it, by an IP-Adapter."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

from regl_app.data.images import ImageSet
from regl_app.generator.image_features import read_pictures
from regl_app.generator.image_prompts import ImagePrompts
from regl_app.generator.ip_adapter import IpAdapter
from regl_app.generator.named_encoder import NamedEncoder
from regl_app.generator.turns import in_turns
from regl_app.supplement.own_pictures import OwnPictures
from regl_app.supplement.run_generator import RunGenerator


@dataclass(frozen=True)
class OwnPrompts:
    """Pictures of one client, read when something is first drawn after them.

    Args:
        generator: the run's.
        own: what gives pictures at the generator's size.
        real: the pictures, a few of each class of the client's, the classes in turn.
        adapter: what shows them to the generator.
        encoder: what reads them.
    """

    generator: RunGenerator
    own: OwnPictures
    real: ImageSet
    adapter: IpAdapter
    encoder: NamedEncoder

    @classmethod
    def of(cls, generator: RunGenerator, own: OwnPictures, real: ImageSet) -> OwnPrompts | None:
        """Return the prompts of ``real``; None if the run shows none, or there are no pictures.

        Raises:
            GeneratorError: the run's IP-Adapter or image encoder cannot be used.
        """
        adapter, encoder = generator.ip_adapter, generator.image_encoder
        if adapter is None or encoder is None or not len(real):
            return None
        return cls(generator, own, real.subset(in_turns(real.labels)), adapter, encoder)

    @cached_property
    def key(self) -> str:
        """Return what of it a cached image depends on."""
        return self.generator.keys.shown(self.real, self.adapter.digest)

    @contextmanager
    def in_effect(self) -> Iterator[None]:
        """Have the run's generator draw after them for a while."""
        with self.generator.foundation.image_prompts.using(self.adapter, self._prompts):
            yield

    @cached_property
    def _prompts(self) -> ImagePrompts:
        foundation, config = self.generator.foundation, self.generator.config.generator
        features = read_pictures(
            foundation, self.own.of(self.real), config.batch_size, self.encoder
        )
        return ImagePrompts(features, self.real.labels, config.ip_adapter_scale)
