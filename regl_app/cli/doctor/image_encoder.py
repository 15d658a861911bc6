"""What this machine has of what reads and shows clients' pictures in a run."""

from __future__ import annotations

from collections.abc import Iterator

from regl_app.cli.doctor.finding import Finding, not_cached
from regl_app.config import RunConfig
from regl_app.core.errors import ReglError


def image_encoder(config: RunConfig) -> Iterator[Finding]:
    """Yield what was found of ``generator.image-encoder`` and ``generator.ip-adapter``.

    Nothing is fetched or loaded.
    """
    from regl_app.generator.encoder_files import encoder_weights
    from regl_app.generator.hub_checkpoint import NotCachedError
    from regl_app.generator.named_encoder import check_image_encoder
    from regl_app.generator.readers import check_readers

    topic, named = "image encoder", config.generator.named_image_encoder
    if not named or not config.needs_generator:
        return
    if not config.image_encoder:
        detail = f"{named} reads no pictures: lora.image-tokens={config.lora.image_tokens}" + (
            ""
            if config.adapts_to_client_images
            else f", and method={config.method!r} tunes on none"
        )
        yield Finding(topic, "note", detail, "lora.image-tokens=4, or generator.image-encoder=auto")
        return
    try:
        folder = check_image_encoder(config.image_encoder, fetch=False)
    except NotCachedError as error:
        yield not_cached(topic, error, named, "it is fetched when first used")
        return
    except ReglError as error:
        yield Finding(topic, "fail", str(error))  # says the remedy itself
        return
    size = sum(file.stat().st_size for file in encoder_weights(folder)) / 1e6
    yield Finding(
        topic,
        "ok",
        f"{named}, {size:.1f} MB ({folder}), on each worker's device while it reads a client's "
        "pictures",
    )
    if not config.ip_adapter:
        return
    try:
        check_readers(config, fetch=False)
    except NotCachedError:
        return  # told under the generator's own topic
    except ReglError as error:
        yield Finding("IP-Adapter", "fail", str(error))
        return
    yield Finding("IP-Adapter", "ok", f"{config.ip_adapter}, made for this generator and encoder")
