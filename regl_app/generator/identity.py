"""What tells the files that a run's images are made with from others: for config.json, compare."""

from __future__ import annotations

from regl_app.config import RunConfig
from regl_app.generator.checkpoint import generator_identity
from regl_app.generator.encoder_files import image_encoder_identity


def identity_of(config: RunConfig) -> str:
    """Return the identity of a run's generator, and of the image encoder that it names, if any.

    Of files on this machine digests, of hub ids repository and commit, 'unknown' of what is not
    found. No weights are fetched.
    """
    generator = generator_identity(config.generator.path)
    if not config.image_encoder:
        return generator
    return f"{generator}, image encoder {image_encoder_identity(config.image_encoder)}"
