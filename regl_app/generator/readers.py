"""What reads clients' pictures for the generator in a run, looked at before it starts."""

from __future__ import annotations

from pathlib import Path

from regl_app.config import RunConfig
from regl_app.generator.checkpoint import resolve_generator
from regl_app.generator.ip_adapter import check_ip_adapter
from regl_app.generator.named_encoder import check_image_encoder


def check_readers(config: RunConfig, *, fetch: bool = True) -> Path | None:
    """Return the folder of the image encoder that a run names, None if nothing of it reads.

    Args:
        config: the run.
        fetch: whether what is not in the hub's cache may be fetched.

    Raises:
        GeneratorError: it cannot be used, or the IP-Adapter that is named is not made for it and
            for the checkpoint.
    """
    if not config.image_encoder:
        return None
    encoder = check_image_encoder(config.image_encoder, fetch=fetch)
    if config.ip_adapter:
        checkpoint = resolve_generator(config.generator.path, fetch=fetch)
        check_ip_adapter(config.ip_adapter, checkpoint, encoder)
    return encoder
