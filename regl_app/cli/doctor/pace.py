"""How long a run's images and adapters will take on this machine, and how much memory."""

from __future__ import annotations

from collections.abc import Iterator

from regl_app.cli.doctor.finding import Finding
from regl_app.config import RunConfig
from regl_app.config.choices import ADAPTERS
from regl_app.core.errors import ReglError
from regl_app.core.formats import duration, short


def expected_time(config: RunConfig) -> Iterator[Finding]:
    """Yield the seconds that images and adapters take, told from a few steps that are run here.

    And the memory, counted. The generator has to be on this machine: nothing is fetched.
    """
    from regl_app.cli.doctor.machine import counted_memory
    from regl_app.cli.doctor.memory import expected_memory
    from regl_app.core.devices import resolve_device
    from regl_app.data.prompt_table import run_source
    from regl_app.generator.checkpoint import generator_digest, resolve_generator
    from regl_app.generator.fitting import fitted
    from regl_app.generator.foundation import shared_foundation
    from regl_app.generator.kept_digests import digests_folder
    from regl_app.generator.pace import measure_pace

    if not config.needs_generator:
        yield Finding("time", "ok", f"no generator is needed by method={config.method!r}")
        return
    folder = device = None
    try:
        folder = resolve_generator(config.generator.path, fetch=False)
        here = fitted(config)
        device = resolve_device(config.device)
        digest = generator_digest(folder, digests_folder(config))
        concepts = run_source(config).concepts
        foundation = shared_foundation(here.generator, concepts, device, digest)
        tunes = ADAPTERS[here.supplement.adapter].uses_pool
        pace = measure_pace(foundation, here.generator, here.lora, here.dpo if tunes else None)
    except ReglError as error:
        yield Finding("time", "note", f"not measured: {error}")
        if folder is not None and device is not None:
            yield from counted_memory(config, folder, device)
        return
    yield Finding(
        "time",
        "ok",
        f"{_pace(pace.image)} of {foundation.image_size} px in {here.generator.steps} "
        f"steps, {pace.at_once} at once, on {device}: "
        + ", ".join(
            f"{duration(pace.image * count)} for the {count} {which}"
            for count, which in _amounts(here, len(concepts))
        ),
    )
    if config.adapts_to_client_images:
        steps = here.lora.steps
        words = (
            pace.untold
            if pace.step is None
            else f"{duration(pace.step)} a tuning step of {here.lora.batch_size}: "
            f"{duration(pace.step * steps)} for an adapter of {steps} (lora.steps), once a client"
        )
        yield Finding("time", "ok" if pace.step is not None else "note", words)
    if tunes:
        steps = here.dpo.steps
        words = (
            pace.untold_preference
            if pace.preference is None
            else f"{duration(pace.preference)} a step of preferences of {here.dpo.batch_size} "
            f"pairs: {duration(pace.preference * steps)} for {steps} (dpo.steps), a client, in "
            f"{here.dpo.rounds} rounds at most (dpo.rounds)"
        )
        yield Finding("time", "ok" if pace.preference is not None else "note", words)
    yield expected_memory(foundation, here)


def _amounts(config: RunConfig, num_classes: int) -> Iterator[tuple[int, str]]:
    """Yield how many images are to be made, and which."""
    if config.uses_generator:
        yield config.supplement.cap, "of a class that a client gets at most (supplement.cap)"
    teaches = config.teaching.first_steps > 0 or (
        config.distills and not config.supplements_at_server
    )
    if teaches or (config.uses_generator and config.generates_from_pool):
        yield config.pool.per_class * num_classes, "of the shared pool (pool.per-class), once"


def _pace(seconds: float) -> str:
    if seconds >= 1:
        return f"{duration(seconds)} an image"
    return f"{short(1 / max(seconds, 1e-6))} images a second"
