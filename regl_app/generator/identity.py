"""What tells the files that a run's images are made with from others: for config.json, compare."""

from __future__ import annotations

from regl_app.config import RunConfig
from regl_app.generator.checkpoint import generator_digest, generator_identity, resolve_generator
from regl_app.generator.encoder_files import image_encoder_identity
from regl_app.generator.kept_digests import digests_folder


def checkpoint_digest(config: RunConfig) -> str:
    """Return the digest of the files of a run's generator, fetched if they are not here.

    Raises:
        GeneratorError: there is nothing at ``generator.path`` that could be used.
    """
    return generator_digest(resolve_generator(config.generator.path), digests_folder(config))


def identity_of(config: RunConfig) -> str:
    """Return the identity of a run's generator, and of what shows it clients' pictures, if any.

    Of files on this machine digests, of hub ids repository and commit, 'unknown' of what is not
    found. No weights are fetched.
    """
    kept = digests_folder(config)
    parts = [generator_identity(config.generator.path, kept)]
    if config.image_encoder:
        parts.append(f"image encoder {image_encoder_identity(config.image_encoder, kept)}")
    if config.ip_adapter:
        # It imports torch, which no door of the library does.
        from regl_app.generator.ip_adapter import ip_adapter_identity

        parts.append(f"IP-Adapter {ip_adapter_identity(config.ip_adapter)}")
    return ", ".join(parts)
