"""What this machine has of all that the clients of a run must have alike."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from regl_app.config import RunConfig
from regl_app.core.errors import GeneratorError
from regl_app.data.federation import Federation
from regl_app.data.run_files import file_digest
from regl_app.flower.messages.alike import DISTANCE, GENERATOR, ROWS
from regl_app.generator.checkpoint import generator_digest, resolve_generator


def alike_here(config: RunConfig, federation: Federation) -> dict[str, str]:
    """Return digests of who holds which row, of the generator, and of the features of distances.

    What the run does not need, or is not here, has none.

    Args:
        config: the run's, its paths absolute.
        federation: as this machine deals the images.
    """
    found = {ROWS: federation.digest} if federation.digest else {}
    if config.generates_at_client:
        with suppress(GeneratorError):  # a server need not have it
            folder = resolve_generator(config.generator.path, fetch=False)
            found[GENERATOR] = generator_digest(folder)
    file = config.supplement.distance_file
    if file and config.uses_generator:
        with suppress(OSError):
            found[DISTANCE] = file_digest(Path(file))
    return found
