"""What this machine has of all that the clients of a run must have alike."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from regl_app.config import RunConfig
from regl_app.core.errors import GeneratorError
from regl_app.data.federation import Federation
from regl_app.data.run_files import file_digest
from regl_app.flower.messages.alike import DISTANCE, GENERATOR, IMAGE_ENCODER, IP_ADAPTER, ROWS
from regl_app.generator.checkpoint import generator_digest, resolve_generator
from regl_app.generator.encoder_files import image_encoder_digest, resolve_image_encoder
from regl_app.generator.ip_adapter import IpAdapter
from regl_app.generator.kept_digests import digests_folder


def alike_here(config: RunConfig, federation: Federation) -> dict[str, str]:
    """Return digests of who holds which row, and of the files that images are made and judged by.

    Of the generator, of what shows it clients' pictures, and of the features of distances. What the
    run does not need, or is not here, has none.

    Args:
        config: the run's, its paths absolute.
        federation: as this machine deals the images.
    """
    found = {ROWS: federation.digest} if federation.digest else {}
    if config.generates_at_client:
        with suppress(GeneratorError):  # a server need not have it
            folder = resolve_generator(config.generator.path, fetch=False)
            found[GENERATOR] = generator_digest(folder, digests_folder(config))
    if config.image_encoder:
        with suppress(GeneratorError):
            encoder = resolve_image_encoder(config.image_encoder, fetch=False)
            found[IMAGE_ENCODER] = image_encoder_digest(encoder, digests_folder(config))
    if config.ip_adapter:
        with suppress(GeneratorError):
            found[IP_ADAPTER] = IpAdapter.of(config.ip_adapter).digest
    file = config.supplement.distance_file
    if file and config.uses_generator:
        with suppress(OSError):
            found[DISTANCE] = file_digest(Path(file))
    return found
